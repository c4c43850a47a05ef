//! The permissions of `--chmod`: octal, or symbolic as in chmod(1).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The parsed value of `--chmod`. It is serialised as it is written, octal or symbolic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ChmodMode {
    /// Octal: exactly these bits, at most 0o7777.
    Exact(u32),
    /// Symbolic: changes to the mode of a file, applied in order.
    Changes(Vec<ChmodChange>),
}

/// One symbolic change, such as `go-w` or `u=rwX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChmodChange {
    /// The mask of the affected bits: 0o700 for the owner, 0o070 for the group, 0o007 for others, or a union of these.
    who: u32,
    operator: ModeOperator,
    what: ModePermissions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ModeOperator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ModePermissions {
    /// Permission letters out of `rwxXst`.
    Letters { bits: u32, search: bool, set_id: bool, sticky: bool },
    /// A copy of the bits of `u`, `g` or `o`: a shift of 6 for the owner, 3 for the group, 0 for others.
    Like(u32),
}

impl ChmodMode {
    /// Parses an octal number up to 07777, or a symbolic mode (`u=rwX,go=rX`, as chmod(1) without a umask). `None` when
    /// the text is neither.
    pub fn parse(text: &str) -> Option<ChmodMode> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).map(ChmodMode::Exact);
        }
        let mut changes = Vec::new();
        for part in text.split(',') {
            parse_clause(part, &mut changes)?;
        }
        Some(ChmodMode::Changes(changes))
    }

    /// Returns the permissions of a file or directory that had `mode`; at most 0o7777.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            ChmodMode::Exact(exact) => *exact,
            ChmodMode::Changes(changes) => {
                changes.iter().fold(mode & 0o7777, |mode, change| change.apply(mode, is_dir))
            }
        }
    }

    /// Returns the text that stands for the mode in cache keys. It is a format of its own and must never change:
    /// existing cache records would be misses.
    pub fn cache_key_text(&self) -> String {
        match self {
            ChmodMode::Exact(mode) => format!("{mode:o}"),
            ChmodMode::Changes(changes) => {
                let changes: Vec<String> = changes.iter().map(ChmodChange::cache_key_text).collect();
                format!("[{}]", changes.join(", "))
            }
        }
    }
}

/// Writes the mode as [`ChmodMode::parse`] reads it.
impl fmt::Display for ChmodMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChmodMode::Exact(mode) => write!(out, "{mode:04o}"),
            ChmodMode::Changes(changes) => {
                for (at, change) in changes.iter().enumerate() {
                    write!(out, "{}{change}", if at == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl From<ChmodMode> for String {
    fn from(mode: ChmodMode) -> String {
        mode.to_string()
    }
}

impl TryFrom<String> for ChmodMode {
    type Error = InvalidChmodMode;

    fn try_from(text: String) -> Result<ChmodMode, InvalidChmodMode> {
        ChmodMode::parse(&text).ok_or(InvalidChmodMode(text))
    }
}

/// The error for a text that is neither an octal nor a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a mode: write it in octal, as `0755`, or in letters, as `u=rwX,go=rX`", .0.escape_debug())]
pub struct InvalidChmodMode(String);

/// Parses one clause: `[ugoa]*([-+=]([rwxXst]*|[ugo]))+`.
fn parse_clause(text: &str, changes: &mut Vec<ChmodChange>) -> Option<()> {
    let rest = text.trim_start_matches(['u', 'g', 'o', 'a']);
    let who = text[..text.len() - rest.len()].chars().fold(0, |who, letter| {
        who | match letter {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            _ => 0o777,
        }
    });
    let who = if who == 0 { 0o777 } else { who };
    let mut rest = rest;
    if rest.is_empty() {
        return None;
    }
    while let Some(first) = rest.chars().next() {
        let operator = match first {
            '+' => ModeOperator::Add,
            '-' => ModeOperator::Remove,
            '=' => ModeOperator::Set,
            _ => return None,
        };
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |end| end + 1);
        changes.push(ChmodChange { who, operator, what: parse_permissions(&rest[1..end])? });
        rest = &rest[end..];
    }
    Some(())
}

fn parse_permissions(letters: &str) -> Option<ModePermissions> {
    match letters {
        "u" => return Some(ModePermissions::Like(6)),
        "g" => return Some(ModePermissions::Like(3)),
        "o" => return Some(ModePermissions::Like(0)),
        _ => {}
    }
    let (mut bits, mut search, mut set_id, mut sticky) = (0, false, false, false);
    for letter in letters.chars() {
        match letter {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= 0o111,
            'X' => search = true,
            's' => set_id = true,
            't' => sticky = true,
            _ => return None,
        }
    }
    Some(ModePermissions::Letters { bits, search, set_id, sticky })
}

impl ChmodChange {
    /// Returns the part of [`ChmodMode::cache_key_text`] for this change.
    fn cache_key_text(&self) -> String {
        let operator = match self.operator {
            ModeOperator::Add => "Add",
            ModeOperator::Remove => "Remove",
            ModeOperator::Set => "Set",
        };
        let what = match self.what {
            ModePermissions::Letters { bits, search, set_id, sticky } => {
                format!("Letters {{ bits: {bits}, search: {search}, set_id: {set_id}, sticky: {sticky} }}")
            }
            ModePermissions::Like(shift) => format!("Like({shift})"),
        };
        format!("Change {{ who: {}, operator: {operator}, what: {what} }}", self.who)
    }

    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let mut special = 0;
        let bits = match self.what {
            ModePermissions::Like(shift) => ((mode >> shift) & 0o7) * 0o111,
            ModePermissions::Letters { bits, search, set_id, sticky } => {
                if set_id {
                    special |= if self.who & 0o700 != 0 { 0o4000 } else { 0 };
                    special |= if self.who & 0o070 != 0 { 0o2000 } else { 0 };
                }
                if sticky {
                    special |= 0o1000;
                }
                bits | if search && (is_dir || mode & 0o111 != 0) { 0o111 } else { 0 }
            }
        };
        let bits = bits & self.who | special;
        match self.operator {
            ModeOperator::Add => mode | bits,
            ModeOperator::Remove => mode & !bits,
            ModeOperator::Set => {
                let owned =
                    if self.who & 0o700 != 0 { 0o4000 } else { 0 } | if self.who & 0o070 != 0 { 0o2000 } else { 0 };
                mode & !(self.who | owned) | bits
            }
        }
    }
}

impl fmt::Display for ChmodChange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bits, letter) in [(0o700, 'u'), (0o070, 'g'), (0o007, 'o')] {
            if self.who & bits != 0 {
                write!(out, "{letter}")?;
            }
        }
        out.write_str(match self.operator {
            ModeOperator::Add => "+",
            ModeOperator::Remove => "-",
            ModeOperator::Set => "=",
        })?;
        match self.what {
            ModePermissions::Like(shift) => out.write_str(match shift {
                6 => "u",
                3 => "g",
                _ => "o",
            }),
            ModePermissions::Letters { bits, search, set_id, sticky } => {
                let letters = [
                    (bits & 0o444 != 0, 'r'),
                    (bits & 0o222 != 0, 'w'),
                    (bits & 0o111 != 0, 'x'),
                    (search, 'X'),
                    (set_id, 's'),
                    (sticky, 't'),
                ];
                letters.iter().filter(|(given, _)| *given).try_for_each(|(_, letter)| write!(out, "{letter}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_key_text_stays_the_same() {
        let table = [
            ("755", "755"),
            ("0644", "644"),
            (
                "u=rwX,go-w",
                "[Change { who: 448, operator: Set, what: Letters { bits: 438, search: true, set_id: false, sticky: false } }, \
                 Change { who: 63, operator: Remove, what: Letters { bits: 146, search: false, set_id: false, sticky: false } }]",
            ),
            ("g+u", "[Change { who: 56, operator: Add, what: Like(6) }]"),
            (
                "+xst",
                "[Change { who: 511, operator: Add, what: Letters { bits: 73, search: false, set_id: true, sticky: true } }]",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(ChmodMode::parse(text).map(|mode| mode.cache_key_text()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn displayed_mode_is_parsed_to_the_same_mode() {
        for text in
            ["755", "0", "7777", "u=rwX,go=rX", "+x", "go=", "g=u", "o-g", "a+o", "u+s,g+s", "+t", "u+r-w", "ug=rwxXst"]
        {
            let mode = ChmodMode::parse(text).unwrap_or_else(|| panic!("{text} is a mode"));
            assert_eq!(ChmodMode::parse(&mode.to_string()), Some(mode), "{text}");
        }
    }

    #[test]
    fn octal_and_symbolic_modes_apply_as_in_chmod() {
        let table = [
            ("755", 0o600, false, 0o755),
            ("4755", 0o600, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("go=", 0o777, false, 0o700),
            ("g=u", 0o640, false, 0o660),
            ("u+s,g+s", 0o755, false, 0o6755),
            ("+t", 0o777, true, 0o1777),
            ("u=rw,u+x", 0o000, false, 0o700),
            ("u+r-w", 0o200, false, 0o400),
        ];
        for (text, before, is_dir, after) in table {
            let mode = ChmodMode::parse(text).unwrap_or_else(|| panic!("{text} is a mode"));
            assert_eq!(format!("{:o}", mode.apply(before, is_dir)), format!("{after:o}"), "{text} of {before:o}");
        }
    }

    #[test]
    fn invalid_modes_are_refused() {
        for text in ["", "8", "10000", "-1", "u", "u=z", "rw", "u=rw,", ",", "u=gr", "0x1", "99999999999"] {
            assert_eq!(ChmodMode::parse(text), None, "{text}");
        }
    }
}
