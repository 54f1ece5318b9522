//! Words of a shell's command line, for people to copy.

/// As one word of a shell's command line.
#[must_use]
pub fn quoted(text: &str) -> String {
    let plain = |char: char| char.is_alphanumeric() || "/._-+:,@%=".contains(char);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    if text.chars().any(char::is_control) {
        return format!("$'{}'", text.chars().map(escaped).collect::<String>());
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// As the shells read it between `$'` and `'`.
fn escaped(char: char) -> String {
    match char {
        '\n' => r"\n".to_owned(),
        '\'' | '\\' => format!("\\{char}"),
        char if char.is_control() => {
            let mut bytes = [0; 4];
            char.encode_utf8(&mut bytes).bytes().map(|byte| format!("\\x{byte:02x}")).collect()
        }
        char => char.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_a_shell_is_quoted_where_it_must_be() {
        assert_eq!(quoted("cluster/client.toml"), "cluster/client.toml");
        assert_eq!(quoted("/var/lib/orders-1.log"), "/var/lib/orders-1.log");
        assert_eq!(quoted("$HOME"), "'$HOME'");
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("a\nb"), r"$'a\nb'");
        assert_eq!(quoted("\x1b[2J'"), r"$'\x1b[2J\''");
        assert_eq!(quoted(""), "''");
    }
}
