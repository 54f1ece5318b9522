//! Rust text to tokens, with comments and the contents of strings set apart, so that no rule is fooled by
//! them. Knows just enough of the language to find words, matching braces and test code.

use std::ops::RangeInclusive;

/// What a token is, as far as a rule needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Word,
    Text,
    Mark,
}

/// A word, the contents of a string, or a punctuation mark (`::` is one mark).
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// One line of a comment.
#[derive(Debug)]
pub(crate) struct Comment {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// One file of Rust.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) comments: Vec<Comment>,
    /// The whole file is test code.
    pub(crate) is_test: bool,
    test_lines: Vec<RangeInclusive<usize>>,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Source {
        let (tokens, comments) = Lexer::new(text).run();
        let is_test = path.split('/').next() == Some("tests") || path.contains("/tests/");
        let mut source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
            tokens,
            comments,
            is_test,
            test_lines: vec![],
        };
        source.find_tests();
        source
    }

    /// The text of the token at `index`; empty past either end.
    pub(crate) fn at(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| &token.text)
    }

    /// The text of the token `back` places before `index`; empty before the first.
    pub(crate) fn before(&self, index: usize, back: usize) -> &str {
        index.checked_sub(back).map_or("", |index| self.at(index))
    }

    /// Whether the token at `index` is the word `word`, not a string that contains it.
    pub(crate) fn is_word(&self, index: usize, word: &str) -> bool {
        self.tokens.get(index).is_some_and(|token| token.kind == Kind::Word && token.text == word)
    }

    pub(crate) fn is_mark(&self, index: usize, mark: &str) -> bool {
        self.tokens.get(index).is_some_and(|token| token.kind == Kind::Mark && token.text == mark)
    }

    /// Whether `line` is in a test file or under `#[cfg(test)]`.
    pub(crate) fn in_test(&self, line: usize) -> bool {
        self.is_test || self.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// The index of the brace, bracket or parenthesis that closes the one at `open`.
    pub(crate) fn closing(&self, open: usize) -> usize {
        let mut depth = 0usize;
        for index in open..self.tokens.len() {
            if self.tokens[index].kind != Kind::Mark {
                continue;
            }
            match self.at(index) {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return index;
            }
        }
        self.tokens.len().saturating_sub(1)
    }

    /// The index of the `{` that opens the body of the item at `index`, or of the `;` that ends it.
    pub(crate) fn body_or_end(&self, mut index: usize) -> usize {
        while index < self.tokens.len() && !self.is_mark(index, "{") && !self.is_mark(index, ";") {
            let opens = self.is_mark(index, "(") || self.is_mark(index, "[");
            index = if opens { self.closing(index) } else { index } + 1;
        }
        index
    }

    /// The names of the inline modules around the token at `index`, outermost first.
    pub(crate) fn inline_modules(&self, index: usize) -> Vec<&str> {
        let around = |&at: &usize| {
            // A macro may give the name: `mod $name {`.
            let open = if self.is_mark(at + 1, "$") { at + 3 } else { at + 2 };
            self.is_word(at, "mod") && self.is_mark(open, "{") && self.closing(open) > index
        };
        (0..index).filter(around).map(|at| self.at(at + 1)).collect()
    }

    /// Finds `#[cfg(test)]` and its like, and the lines of the item each stands on.
    fn find_tests(&mut self) {
        for index in 0..self.tokens.len() {
            let inner = self.is_mark(index + 1, "!");
            let open = index + 1 + usize::from(inner);
            if !self.is_mark(index, "#") || !self.is_mark(open, "[") || !self.is_word(open + 1, "cfg") {
                continue;
            }
            let close = self.closing(open);
            let names_test = (open..close).any(|at| {
                self.is_word(at, "test") && !(self.is_mark(at - 1, "(") && self.is_word(at - 2, "not"))
            });
            if names_test && inner {
                self.is_test = true;
            } else if names_test {
                let body = self.body_or_end(close + 1);
                let end = if self.is_mark(body, "{") { self.closing(body) } else { body };
                let last = self.tokens.get(end).or(self.tokens.last()).map_or(0, |token| token.line);
                self.test_lines.push(self.tokens[index].line..=last);
            }
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
    comments: Vec<Comment>,
}

impl Lexer {
    fn new(text: &str) -> Lexer {
        Lexer { chars: text.chars().collect(), at: 0, line: 1, tokens: vec![], comments: vec![] }
    }

    fn run(mut self) -> (Vec<Token>, Vec<Comment>) {
        while let Some(char) = self.peek(0) {
            match char {
                '/' if self.peek(1) == Some('/') => self.line_comment(),
                '/' if self.peek(1) == Some('*') => self.block_comment(),
                '"' => self.string(0, true),
                '\'' => self.char_or_lifetime(),
                '_' | 'a'..='z' | 'A'..='Z' | '0'..='9' => self.word(),
                ':' if self.peek(1) == Some(':') => {
                    self.push(Kind::Mark, "::".to_owned());
                    self.at += 2;
                }
                _ => {
                    if !char.is_whitespace() {
                        self.push(Kind::Mark, char.to_string());
                    }
                    self.step();
                }
            }
        }
        (self.tokens, self.comments)
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn step(&mut self) {
        self.line += usize::from(self.peek(0) == Some('\n'));
        self.at += 1;
    }

    fn push(&mut self, kind: Kind, text: String) {
        self.tokens.push(Token { kind, text, line: self.line });
    }

    fn line_comment(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(|char| char != '\n') {
            self.step();
        }
        self.comments.push(Comment { text: self.chars[start..self.at].iter().collect(), line: self.line });
    }

    fn block_comment(&mut self) {
        let (start, first_line, mut depth) = (self.at, self.line, 0);
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => (depth, self.at) = (depth + 1, self.at + 2),
                (Some('*'), Some('/')) => (depth, self.at) = (depth - 1, self.at + 2),
                _ => self.step(),
            }
            if depth == 0 {
                break;
            }
        }
        let text: String = self.chars[start..self.at.min(self.chars.len())].iter().collect();
        let lines = text.lines().zip(first_line..);
        self.comments.extend(lines.map(|(text, line)| Comment { text: text.to_owned(), line }));
    }

    /// A string that begins at the quote; `hashes` after its closing quote end it.
    fn string(&mut self, hashes: usize, escapes: bool) {
        let first_line = self.line;
        self.step();
        let start = self.at;
        while let Some(char) = self.peek(0) {
            if escapes && char == '\\' {
                self.step();
            } else if char == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                break;
            }
            self.step();
        }
        let end = self.at.min(self.chars.len());
        let text = self.chars[start..end].iter().collect();
        self.tokens.push(Token { kind: Kind::Text, text, line: first_line });
        self.at = end + 1 + hashes;
    }

    fn char_or_lifetime(&mut self) {
        if self.peek(1) == Some('\\') {
            // The escaped character may itself be a quote.
            self.at += 3;
            while self.peek(0).is_some_and(|char| char != '\'') {
                self.step();
            }
            self.step();
        } else if self.peek(2) == Some('\'') {
            self.step();
            self.step();
            self.step();
        } else {
            self.step();
        }
    }

    /// A word, a number, or a string with a prefix.
    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(|char| char == '_' || char.is_ascii_alphanumeric()) {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        let hashes = self.chars[self.at..].iter().take_while(|&&char| char == '#').count();
        match text.as_str() {
            "r" | "br" | "cr" if self.peek(hashes) == Some('"') => {
                self.at += hashes;
                self.string(hashes, false);
            }
            "b" | "c" if self.peek(0) == Some('"') => self.string(0, true),
            "b" if self.peek(0) == Some('\'') => self.char_or_lifetime(),
            "r" if hashes == 1 => self.at += 1,
            _ => self.push(Kind::Word, text),
        }
    }
}

#[test]
fn strings_chars_lifetimes_and_comments_are_told_apart() {
    let source = Source::parse(
        "src/a.rs",
        r##"fn a<'a>(x: &'a str) -> char { /* unsafe /* { */ } */ let q = '"'; let b = b'\''; // }
            let s = "unsafe { \" "; let r = r#"a " quote"#; r#type }"##,
    );
    let words: Vec<_> = source.tokens.iter().filter(|t| t.kind == Kind::Word).map(|t| &*t.text).collect();
    assert_eq!(
        words,
        ["fn", "a", "a", "x", "a", "str", "char", "let", "q", "let", "b", "let", "s", "let", "r", "type"]
    );
    let texts: Vec<_> = source.tokens.iter().filter(|t| t.kind == Kind::Text).map(|t| &*t.text).collect();
    assert_eq!(texts, [r#"unsafe { \" "#, r#"a " quote"#]);
    let open = source.body_or_end(0);
    assert_eq!(source.closing(open), source.tokens.len() - 1);
    assert_eq!(source.comments.len(), 2);
}

#[test]
fn test_code_is_what_stands_under_cfg_test() {
    let source = Source::parse(
        "src/a.rs",
        "fn a() {}\n#[cfg(not(test))]\nfn b() {}\n#[cfg(all(test, not(loom)))]\nmod tests {\nfn c() {}\n}\nfn d() {}\n\
         #[cfg(test)]\nmod more;\n",
    );
    let in_test: Vec<usize> = (1..=10).filter(|&line| source.in_test(line)).collect();
    assert_eq!(in_test, [4, 5, 6, 7, 9, 10]);
    assert!(Source::parse("src/b.rs", "#![cfg(test)]\nfn a() {}\n").in_test(2));
    assert!(Source::parse("tools/x/tests/b.rs", "fn a() {}\n").in_test(1));
}
