//! Evaluates `${name…}` substitutions with a modifier.

use super::ExpandError;
use super::pattern::Pattern;

/// A `${name…` substitution whose modifier has been read.
pub(super) struct Dollar {
    pub(super) name: String,
    pub(super) form: Form,
    /// The modifier as written.
    pub(super) sign: String,
    /// True when the modifier starts with `:`, so that an empty value counts as unset.
    pub(super) empty_is_unset: bool,
}

pub(super) enum Form {
    Default,
    Alternative,
    Required,
    TrimStart,
    TrimEnd,
    /// `/` or `//` before its pattern is read.
    ReplacePattern {
        all: bool,
    },
    /// `/` or `//` before its replacement is read.
    Replace {
        all: bool,
        pattern: String,
    },
}

impl Dollar {
    /// Returns the substitution as written, except that variables in `word` are expanded.
    pub(super) fn as_written(&self, word: &str) -> String {
        let Dollar { name, form, sign, .. } = self;
        match form {
            Form::Replace { pattern, .. } => format!("${{{name}{sign}{pattern}/{word}}}"),
            Form::Default
            | Form::Alternative
            | Form::Required
            | Form::TrimStart
            | Form::TrimEnd
            | Form::ReplacePattern { .. } => format!("${{{name}{sign}{word}}}"),
        }
    }

    /// Evaluates the substitution, given the value of the variable and the word behind the modifier.
    pub(super) fn result(self, value: Option<&str>, word: String) -> Result<String, ExpandError> {
        let present = value.filter(|value| !(self.empty_is_unset && value.is_empty()));
        let text = value.unwrap_or_default();
        match self.form {
            Form::Default => Ok(present.map_or(word, str::to_owned)),
            Form::Alternative => Ok(present.map_or_else(String::new, |_| word)),
            Form::Required => match present {
                Some(value) => Ok(value.to_owned()),
                None => Err(self.missing(value.is_some(), &word)),
            },
            Form::TrimStart => {
                let (word, longest) = word.strip_prefix('#').map_or((word.as_str(), false), |word| (word, true));
                Pattern::parse(word)?.trim_start(text, longest)
            }
            Form::TrimEnd => {
                let (word, longest) = word.strip_prefix('%').map_or((word.as_str(), false), |word| (word, true));
                Pattern::parse(word)?.trim_end(text, longest)
            }
            Form::Replace { all, ref pattern } => Pattern::parse(pattern)?.replace(text, &word, all),
            Form::ReplacePattern { .. } => Ok(String::new()),
        }
    }

    fn missing(&self, is_set: bool, word: &str) -> ExpandError {
        let message = match (word.is_empty(), is_set) {
            (false, _) => format!("is required: {word}"),
            (true, true) => "must not be empty".to_owned(),
            (true, false) => "must be set".to_owned(),
        };
        ExpandError::Required { name: self.name.clone(), message }
    }
}
