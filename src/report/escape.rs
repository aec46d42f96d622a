//! Text that others wrote, made harmless for the place where it is printed.
//!
//! Every name, note and error in a ledger may be hostile: HTML, Markdown, terminal escapes, text that runs right to left. Two
//! layers: [`visible`] turns what cannot be seen into marks that can (`⟦U+202E⟧`), and then each format escapes its own syntax.

/// True for characters that would move, hide or reorder what is around them.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' // C0 without tab and line feed, DEL, C1
        | '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}' // zero width space, direction marks
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Shows control characters and bidirectional controls as `⟦U+XXXX⟧`; keeps line feeds and tabs.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let text = text.replace("\r\n", "\n");
    for c in text.chars() {
        if is_hidden(c) {
            out.push_str(&format!("⟦U+{:04X}⟧", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// As [`visible`], on one line: line feeds become `⏎`, tabs become spaces. Safe for a terminal.
pub fn line(text: &str) -> String {
    visible(text.trim_end_matches('\n'))
        .replace('\n', " ⏎ ")
        .replace('\t', " ")
}

/// Escapes one line of text for HTML, in element content or a quoted attribute.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Escapes one line of text for CommonMark with tables, with as few marks as reading in a terminal allows.
pub fn markdown(text: &str) -> String {
    markdown_from(text, true)
}

/// As [`markdown`], after something else on the same line: what means something only at the start stays as it is.
pub fn markdown_after(text: &str) -> String {
    markdown_from(text, false)
}

fn markdown_from(text: &str, start: bool) -> String {
    let line = line(text);
    let mut out = String::with_capacity(line.len() + 8);
    let mut before = ' ';
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        let after = rest.peek().copied().unwrap_or(' ');
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '[' | ']' | '|' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            // Inside a word an underscore means nothing to Markdown.
            '_' if before.is_alphanumeric() && after.is_alphanumeric() => out.push('_'),
            '_' => out.push_str("\\_"),
            // Bare addresses would become links.
            ':' if after == '/' => out.push_str("\\:"),
            '@' if before.is_alphanumeric() && after.is_alphanumeric() => out.push_str("\\@"),
            '#' | '-' | '+' | '=' if start && out.is_empty() => {
                out.push('\\');
                out.push(c);
            }
            // `1.` and `1)` at the start would become a list.
            '.' | ')' if start && !out.is_empty() && out.bytes().all(|b| b.is_ascii_digit()) => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
        before = c;
    }
    out
}

/// Makes JSON safe inside a `script` element: it cannot end the element, and it still reads as the same JSON.
pub fn json_in_html(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        // These characters stand only inside strings of a JSON text (or never, for `<`), so the escape reads back as the same.
        if matches!(c, '<' | '>' | '&') || (is_hidden(c) && !c.is_ascii()) {
            let mut units = [0u16; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Keeps letters, digits and harmless signs, for a CSS string.
pub fn css_string(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | ':' | '+' | '.'))
        .take(120)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_becomes_a_mark() {
        assert_eq!(
            visible("a\u{202e}b\u{1b}[31m\u{9b}"),
            "a⟦U+202E⟧b⟦U+001B⟧[31m⟦U+009B⟧"
        );
        assert_eq!(line("a\r\nb\tc\n"), "a ⏎ b c");
    }

    #[test]
    fn html_cannot_leave_its_place() {
        assert_eq!(
            html("<a href=\"x\" b='y'>&"),
            "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;"
        );
    }

    #[test]
    fn markdown_keeps_names_readable_and_marks_dead() {
        assert_eq!(markdown("web-7d9 in kube_system"), "web-7d9 in kube_system");
        assert_eq!(markdown("# x"), "\\# x");
        assert_eq!(markdown("1. x"), "1\\. x");
        assert_eq!(
            markdown("[a](b) |c| <script> `d` *e* _f_"),
            "\\[a\\](b) \\|c\\| &lt;script&gt; \\`d\\` \\*e\\* \\_f\\_"
        );
        assert_eq!(markdown("https://evil"), "https\\://evil");
    }

    #[test]
    fn json_in_a_page_reads_back_as_itself() {
        let json = serde_json::json!({"a": "</script><!--\u{202e}\u{e0001}"}).to_string();
        let safe = json_in_html(&json);
        assert!(!safe.contains('<') && !safe.contains('\u{202e}'));
        let back: serde_json::Value = serde_json::from_str(&safe).expect("json");
        assert_eq!(back.to_string(), json);
    }
}
