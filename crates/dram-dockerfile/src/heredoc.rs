//! Recognises heredocs, so that their bodies are not parsed as instructions.
//!
//! Follows BuildKit's `heredocsFromLine`: words are split with their quotes kept, and `<<NAME` must be a whole word.

use crate::expand::{ExpandOptions, expand};

/// The start of a heredoc: `<<NAME` on the line of an instruction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HeredocStart {
    /// The terminator: the line that ends the body.
    pub(crate) name: String,
    /// True for `<<-`: tabs before the terminator are ignored.
    pub(crate) strip_tabs: bool,
    /// True when the name is unquoted, so that variables in the body are expanded.
    pub(crate) expand: bool,
}

/// Returns the heredocs that start on `line`, in order.
pub(crate) fn find_starts(line: &str) -> Vec<HeredocStart> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let options = ExpandOptions {
        raw_quotes: true,
        raw_escapes: true,
        keep_unset: true,
        split: true,
        ..ExpandOptions::new('\\')
    };
    // A line that the lexer cannot read, such as one with an open quote, is left to the shell and has no heredocs.
    let words = expand(line, options, &|_| None).map(|expanded| expanded.words).unwrap_or_default();
    words.iter().filter_map(|word| parse_start(word)).collect()
}

/// Parses `word` as the start of a heredoc; `None` unless the whole word is one.
pub(crate) fn parse_start(word: &str) -> Option<HeredocStart> {
    let rest = word.trim_start_matches(|digit: char| digit.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, strip_tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let options = ExpandOptions { keep_unset: true, split: true, ..ExpandOptions::new('\\') };
    let [name] = <[String; 1]>::try_from(expand(rest, options, &|_| None).ok()?.words).ok()?;
    let raw = expand(rest, ExpandOptions { raw_quotes: true, ..options }, &|_| None).ok()?.text;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Some(HeredocStart { expand: quotes(&name) == quotes(&raw), name, strip_tabs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heredocs_start_only_outside_quotes() {
        let table: &[(&str, &[(&str, bool)])] = &[
            ("RUN <<EOF", &[("EOF", false)]),
            ("RUN <<-END cat", &[("END", true)]),
            ("RUN <<- END cat", &[("END", true)]),
            ("RUN << -END", &[("-END", false)]),
            ("RUN cat << A 3<<'B' > x", &[("A", false), ("B", false)]),
            ("COPY <<\"a b\" /x", &[("a b", false)]),
            ("RUN '<<EOF'", &[]),
            ("RUN x <<< y", &[]),
            ("RUN echo $((1<<2))", &[]),
            ("RUN it's <<EOF", &[]),
            ("RUN <<", &[]),
        ];
        for (line, expected) in table {
            let found = find_starts(line);
            let found: Vec<(&str, bool)> = found.iter().map(|doc| (doc.name.as_str(), doc.strip_tabs)).collect();
            assert_eq!(&found, expected, "{line}");
        }
    }
}
