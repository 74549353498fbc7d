//! Just enough of Rust's grammar to tell code from comments, literals and tests.

/// `text` with comments, strings and characters blanked out; lines stay where they were.
pub fn without_text(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => find(&chars, at, |rest| rest[0] == '\n'),
            ('/', Some('*')) => block_comment_end(&chars, at),
            ('"', _) => quoted_end(&chars, at + 1, '"'),
            ('r', Some('"' | '#')) if !continues_word(&chars, at) => match raw_string_end(&chars, at) {
                Some(end) => end,
                None => at,
            },
            ('\'', Some('\\')) => quoted_end(&chars, at + 1, '\''),
            // A character; what has no second quote right here is a lifetime.
            ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => at + 3,
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// `code`, already without text, with everything under `#[cfg(test)]` blanked out.
pub fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut left = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        let item = &rest[start + MARK.len()..];
        let length = match item.find(['{', ';']) {
            Some(open) if item[open..].starts_with('{') => open + block_length(&item[open..]),
            Some(semicolon) => semicolon + 1,
            None => item.len(),
        };
        left.push_str(&rest[..start]);
        left.extend(
            rest[start..start + MARK.len() + length]
                .chars()
                .map(|c| if c == '\n' { '\n' } else { ' ' }),
        );
        rest = &item[length..];
    }
    left + rest
}

/// Words and single signs, each with the number of its line, from one.
pub fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            tokens.push((index + 1, &rest[..length]));
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// Whether `tokens` begins with these.
pub fn starts_with(tokens: &[(usize, &str)], words: &[&str]) -> bool {
    tokens.len() >= words.len() && tokens.iter().zip(words).all(|((_, token), word)| token == word)
}

/// How far the group reaches that begins with the first token, an opening bracket.
pub fn group<'a, 'b>(tokens: &'a [(usize, &'b str)]) -> &'a [(usize, &'b str)] {
    let mut depth = 0;
    for (index, (_, token)) in tokens.iter().enumerate() {
        match *token {
            "(" | "{" | "[" => depth += 1,
            ")" | "}" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &tokens[..=index];
        }
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn continues_word(chars: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|index| chars[index]);
    match before(1) {
        // Byte and C strings have one more letter in front.
        Some('b' | 'c') => before(2).is_some_and(is_word),
        before => before.is_some_and(is_word),
    }
}

fn find(chars: &[char], from: usize, found: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len())
        .find(|&at| found(&chars[at..]))
        .unwrap_or(chars.len())
}

fn quoted_end(chars: &[char], from: usize, quote: char) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return None;
    }
    let closing: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let end = find(chars, at + 2 + hashes, |rest| rest.starts_with(&closing));
    Some((end + closing.len()).min(chars.len()))
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn block_length(code: &str) -> usize {
    let mut depth = 0;
    for (index, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    code.len()
}

#[test]
fn text_is_told_from_code() {
    for (text, code) in [
        ("a // b\nc", "a\nc"),
        ("a /* b /* c */ d */ e", "a e"),
        (r#"f("std::time \" x", y)"#, "f ( , y )"),
        (r##"f(r#"a " b"#, br"c\", r"d")"##, "f ( , b , )"),
        ("f('\"', '\\'', 'x', \"\")", "f ( , , , )"),
        (
            "fn f<'a>(x: &'a str) -> &'static str",
            "fn f < ' a > ( x : & ' a str ) - > & ' static str",
        ),
        ("for r in var#\"x\"", "for r in var #"),
    ] {
        let without = without_text(text);
        assert_eq!(without.lines().count(), text.lines().count());
        let lines = without.lines().map(|line| {
            tokens(line)
                .iter()
                .map(|(_, token)| *token)
                .collect::<Vec<_>>()
                .join(" ")
        });
        assert_eq!(lines.collect::<Vec<_>>().join("\n"), code, "{text}");
    }
}

#[test]
fn tests_are_told_from_code() {
    let code =
        "a();\n#[cfg(test)]\nmod tests {\n    fn x() { b() }\n}\nc();\n#[cfg(test)]\nmod more;\nd();\n";
    let left = without_tests(code);
    assert_eq!(left.split_whitespace().collect::<String>(), "a();c();d();");
    assert_eq!(left.lines().count(), code.lines().count());
}
