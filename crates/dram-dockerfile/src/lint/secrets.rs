//! Secrets in `ARG` and `ENV`, recognised by their names, as in BuildKit, and by their values.

use super::warning;
use crate::ast::{Dockerfile, DockerfileInstruction, InstructionBody, SpannedText};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::rules;

/// Checks the names and values of all `ARG` and `ENV`.
pub(super) fn check(dockerfile: &Dockerfile, report: &mut DiagnosticCollector) {
    for one in &dockerfile.instructions {
        if report.is_full_of_warnings() {
            break;
        }
        match &one.body {
            InstructionBody::Arg(arguments) => arguments.iter().for_each(|argument| {
                check_name(one, "ARG", &argument.name.text, report);
                if let Some(default) = &argument.default {
                    check_value(default, report);
                }
            }),
            InstructionBody::Env(pairs) => pairs.iter().for_each(|pair| {
                check_name(one, "ENV", &pair.name.text, report);
                check_value(&pair.value, report);
            }),
            InstructionBody::From(_)
            | InstructionBody::Label(_)
            | InstructionBody::Run(_)
            | InstructionBody::Cmd(_)
            | InstructionBody::Entrypoint(_)
            | InstructionBody::Copy(_)
            | InstructionBody::Add(_)
            | InstructionBody::Workdir(_)
            | InstructionBody::User(_)
            | InstructionBody::Expose(_)
            | InstructionBody::Volume(_)
            | InstructionBody::StopSignal(_)
            | InstructionBody::Shell(_)
            | InstructionBody::Healthcheck(_)
            | InstructionBody::Maintainer(_)
            | InstructionBody::OnBuild(_)
            | InstructionBody::Invalid => {}
        }
    }
}

fn check_name(one: &DockerfileInstruction, keyword: &str, name: &str, report: &mut DiagnosticCollector) {
    const SECRET: &[&str] =
        &["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    const HARMLESS: &[&str] = &["public", "file", "version"];
    let lower = name.to_lowercase();
    let has = |list: &[&str]| lower.split('_').any(|part| list.contains(&part));
    if has(SECRET) && !has(HARMLESS) {
        let message = format!("{} looks like a secret, and everybody who has the image can read it", quote(name));
        let help = match keyword {
            "ARG" => "give it to the one command that needs it: `RUN --mount=type=secret,id=NAME,env=NAME …`",
            _ => "give secrets to the container when it runs",
        };
        report.push(warning(&rules::SECRETS_USED_IN_ARG_OR_ENV, one, message).help(help));
    }
}

fn check_value(word: &SpannedText, report: &mut DiagnosticCollector) {
    if let Some(kind) = secret_kind(word.text.trim_matches(['"', '\''])) {
        let message = format!("the value looks like {kind}");
        report.push(
            Diagnostic::warning(Some(&rules::SECRET_IN_VALUE), word.span.clone(), message)
                .note("it stays in the image, and in the file's history")
                .help("revoke it, and give the new one with `--secret id=NAME,src=FILE` and `RUN --mount=type=secret`"),
        );
    }
}

/// Known tokens: the prefix, the minimum number of characters of `A-Za-z0-9_.-` behind it, and the kind.
const TOKENS: &[(&str, usize, &str)] = &[
    ("AKIA", 16, "an access key of AWS"),
    ("ASIA", 16, "an access key of AWS"),
    ("ghp_", 30, "a token of GitHub"),
    ("gho_", 30, "a token of GitHub"),
    ("ghs_", 30, "a token of GitHub"),
    ("ghu_", 30, "a token of GitHub"),
    ("github_pat_", 30, "a token of GitHub"),
    ("glpat-", 20, "a token of GitLab"),
    ("npm_", 30, "a token of npm"),
    ("pypi-", 30, "a token of PyPI"),
    ("dckr_pat_", 20, "a token of Docker Hub"),
    ("xoxb-", 20, "a token of Slack"),
    ("xoxp-", 20, "a token of Slack"),
    ("xapp-", 20, "a token of Slack"),
    ("sk_live_", 16, "a key of Stripe"),
    ("rk_live_", 16, "a key of Stripe"),
    ("SG.", 20, "a key of SendGrid"),
    ("AIza", 30, "a key of Google"),
    ("sk-ant-", 20, "a key of Anthropic"),
    ("sk-proj-", 20, "a key of OpenAI"),
    ("hf_", 30, "a token of Hugging Face"),
];

/// Returns the kind of secret that a value looks like, if any.
fn secret_kind(value: &str) -> Option<&'static str> {
    let follows =
        |rest: &str| rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte)).count();
    let token = TOKENS.iter().find(|(start, least, _)| {
        value.strip_prefix(start).is_some_and(|rest| follows(rest) == rest.len() && rest.len() >= *least)
    });
    if let Some((_, _, kind)) = token {
        return Some(kind);
    }
    if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY") {
        return Some("a private key");
    }
    if value.starts_with("eyJ")
        && follows(value) == value.len()
        && value.split('.').filter(|part| part.len() > 8).count() == 3
    {
        return Some("a JSON web token");
    }
    has_password(value).then_some("a URL with a password")
}

/// Returns true when `value` is a URL `scheme://user:password@host` whose password is not a placeholder.
fn has_password(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return false };
    let Some((_, password)) = user.split_once(':') else { return false };
    let placeholder = password.contains(['$', '<', '{', '*']) || password.is_empty();
    scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+.-".contains(letter))
        && !scheme.is_empty()
        && !placeholder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_values_are_recognised() {
        let long = "x".repeat(40);
        let github = format!("ghp_{long}");
        let token = format!("eyJ{long}.eyJ{long}.{long}");
        let table = [
            (github.as_str(), Some("a token of GitHub")),
            (&token, Some("a JSON web token")),
            ("AKIAABCDEFGHIJKLMNOP", Some("an access key of AWS")),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", Some("a private key")),
            ("postgres://app:pw@db/app", Some("a URL with a password")),
            ("postgres://app:$PASSWORD@db/app", None),
            ("postgres://app@db/app", None),
            ("https://example.com:80/a@b", None),
            ("ghp_short", None),
            ("npm_config_cache", None),
            ("", None),
            ("/usr/local/bin:/usr/bin", None),
            ("hf_/not/a/token/but/a/path/that/is/long/enough", None),
        ];
        for (value, expected) in table {
            assert_eq!(secret_kind(value), expected, "{value}");
        }
    }
}
