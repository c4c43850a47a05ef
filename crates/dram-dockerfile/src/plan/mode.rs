//! The permissions of `--chmod`: octal, or symbolic as in chmod(1).

/// The parsed value of `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChmodMode {
    /// Octal: exactly these bits, at most 0o7777.
    Exact(u32),
    /// Symbolic: changes to the mode of a file, applied in order.
    Changes(Vec<Change>),
}

/// One symbolic change, such as `go-w` or `u=rwX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
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

    /// Returns a text that identifies the mode in cache keys. It contains the `Debug` output of the changes, so
    /// renaming `Change`, its fields or the variants in it changes cache keys.
    pub fn cache_key_text(&self) -> String {
        match self {
            ChmodMode::Exact(mode) => format!("{mode:o}"),
            ChmodMode::Changes(changes) => format!("{changes:?}"),
        }
    }
}

/// Parses one clause: `[ugoa]*([-+=]([rwxXst]*|[ugo]))+`.
fn parse_clause(text: &str, changes: &mut Vec<Change>) -> Option<()> {
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
        changes.push(Change { who, operator, what: parse_permissions(&rest[1..end])? });
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

impl Change {
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

#[cfg(test)]
mod tests {
    use super::*;

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
