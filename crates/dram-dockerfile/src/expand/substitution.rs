//! Evaluates `${name…}` substitutions with a modifier.

use super::ExpandError;
use super::substitution_pattern::SubstitutionPattern;

/// A `${name…` substitution whose modifier has been read.
pub(super) struct Substitution {
    pub(super) name: String,
    pub(super) form: SubstitutionForm,
    /// The modifier as written.
    pub(super) sign: String,
    /// True when the modifier starts with `:`, so that an empty value counts as unset.
    pub(super) empty_is_unset: bool,
}

pub(super) enum SubstitutionForm {
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

impl Substitution {
    /// Returns the substitution as written, except that variables in `word` are expanded.
    pub(super) fn as_written(&self, word: &str) -> String {
        let Substitution { name, form, sign, .. } = self;
        match form {
            SubstitutionForm::Replace { pattern, .. } => format!("${{{name}{sign}{pattern}/{word}}}"),
            SubstitutionForm::Default
            | SubstitutionForm::Alternative
            | SubstitutionForm::Required
            | SubstitutionForm::TrimStart
            | SubstitutionForm::TrimEnd
            | SubstitutionForm::ReplacePattern { .. } => format!("${{{name}{sign}{word}}}"),
        }
    }

    /// Evaluates the substitution, given the value of the variable and the word behind the modifier.
    pub(super) fn evaluate(self, value: Option<&str>, word: String) -> Result<String, ExpandError> {
        let present = value.filter(|value| !(self.empty_is_unset && value.is_empty()));
        let text = value.unwrap_or_default();
        match self.form {
            SubstitutionForm::Default => Ok(present.map_or(word, str::to_owned)),
            SubstitutionForm::Alternative => Ok(present.map_or_else(String::new, |_| word)),
            SubstitutionForm::Required => match present {
                Some(value) => Ok(value.to_owned()),
                None => Err(self.required_error(value.is_some(), &word)),
            },
            SubstitutionForm::TrimStart => {
                let (word, longest) = word.strip_prefix('#').map_or((word.as_str(), false), |word| (word, true));
                SubstitutionPattern::parse(word)?.trim_start(text, longest)
            }
            SubstitutionForm::TrimEnd => {
                let (word, longest) = word.strip_prefix('%').map_or((word.as_str(), false), |word| (word, true));
                SubstitutionPattern::parse(word)?.trim_end(text, longest)
            }
            SubstitutionForm::Replace { all, ref pattern } => {
                SubstitutionPattern::parse(pattern)?.replace(text, &word, all)
            }
            SubstitutionForm::ReplacePattern { .. } => Ok(String::new()),
        }
    }

    fn required_error(&self, is_set: bool, word: &str) -> ExpandError {
        let message = match (word.is_empty(), is_set) {
            (false, _) => format!("is required: {word}"),
            (true, true) => "must not be empty".to_owned(),
            (true, false) => "must be set".to_owned(),
        };
        ExpandError::Required { name: self.name.clone(), message }
    }
}
