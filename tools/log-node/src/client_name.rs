//! A client as its certificate names it: what it may do, and who it is.

use std::fmt;
use std::str::FromStr;

use annals::protocol::request::ClientRole;

/// `append:shop`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ClientName {
    pub(crate) role: ClientRole,
    pub(crate) name: String,
}

impl FromStr for ClientName {
    type Err = String;

    fn from_str(text: &str) -> Result<ClientName, String> {
        let advice = || format!("expected ROLE:NAME, such as append:shop, not {text:?}");
        let (role, name) = text.split_once(':').ok_or_else(advice)?;
        let role = ClientRole::ALL.into_iter().find(|known| known.as_str() == role);
        let role = role.ok_or_else(|| format!("{}: roles are read, append and admin", advice()))?;
        // A label of a host name: it becomes one in the certificate, and the name of a file.
        let is_label = (1..=40).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !is_label {
            return Err(format!("{}: a name has a to z, 0 to 9 and -, 40 of them at most", advice()));
        }
        Ok(ClientName { role, name: name.to_owned() })
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.role, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_role_and_a_label() {
        for text in ["read:dash", "append:shop-2", "admin:me"] {
            assert_eq!(text.parse::<ClientName>().unwrap().to_string(), text);
        }
        for text in
            ["", "shop", "write:shop", "append:", "append:Shop", "append:-a", "append:../a", "append:a.b"]
        {
            assert!(text.parse::<ClientName>().is_err(), "{text}");
        }
    }
}
