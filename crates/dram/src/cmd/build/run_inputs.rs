//! `--secret`, `--ssh`, `--allow` and other options for the commands of a build.
//!
//! The syntax is that of `docker buildx build`: fields as in a line of CSV.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use dram_build::{CommandOptions, SecretValue};

use super::key_value_option::split_csv;
use crate::ambient;
use crate::cli;
use crate::cmd::container_options;
use crate::failure::Failure;

/// The inputs of commands from the command line.
pub(super) fn run_inputs(
    args: &cli::BuildCommandArgs,
    build_args: &BTreeMap<String, String>,
) -> Result<CommandOptions, Failure> {
    let mut given = CommandOptions {
        secrets: parse_secrets(&args.secret)?,
        ssh_agents: parse_agents(&args.ssh)?,
        hosts: container_options::parse_hosts(&args.add_host)?,
        limits: container_options::parse_limits(&args.ulimit)?,
        ..CommandOptions::default()
    };
    if let Some(size) = container_options::parse_shm_size(args.shm_size.as_deref())? {
        given.shm_size = size;
    }
    given.hostname = build_args.get("BUILDKIT_SANDBOX_HOSTNAME").filter(|name| !name.is_empty()).cloned();
    if let Some(name) = &given.hostname
        && (name.len() > 64 || name.contains(['\0', '\n', '\t', ' ']))
    {
        return Err(Failure::usage(format!("`BUILDKIT_SANDBOX_HOSTNAME={name}` cannot be the name of a machine")));
    }
    for right in &args.allow {
        match right.as_str() {
            "security.insecure" => given.allow_insecure = true,
            "network.host" => given.allow_host_network = true,
            // No command gets a device. Files are not restricted to begin with, so `fs` changes nothing.
            other if other == "device" || other.starts_with("device=") => {
                return Err(Failure::usage("devices cannot be allowed: no command gets one"));
            }
            other if other.starts_with("fs") => {}
            other => {
                let failure = Failure::usage(format!("there is nothing like `{other}` to allow"));
                return Err(failure.help("write `--allow security.insecure` or `--allow network.host`"));
            }
        }
    }
    Ok(given)
}

/// The secrets of `--secret`, by id.
pub(crate) fn parse_secrets(texts: &[String]) -> Result<BTreeMap<String, SecretValue>, Failure> {
    let mut all = BTreeMap::new();
    for text in texts {
        let wrong = |what: &str| {
            let failure = Failure::usage(format!("`--secret {text}` {what}"));
            failure.help("write it as in `--secret id=token,src=FILE` or `--secret id=token,env=NAME`")
        };
        let fields = SecretSpec::parse(text).map_err(|what| wrong(&what))?;
        if fields.id.is_empty() {
            return Err(wrong("has no id"));
        }
        all.insert(fields.id.clone(), read_secret(&fields)?);
    }
    Ok(all)
}

/// The fields of one `--secret`.
#[derive(Debug, Default, PartialEq, Eq)]
struct SecretSpec {
    id: String,
    file: Option<String>,
    variable: Option<String>,
}

impl SecretSpec {
    fn parse(text: &str) -> Result<SecretSpec, String> {
        let mut fields = SecretSpec::default();
        let mut kind = String::new();
        for field in split_csv(text).ok_or("has a quote that does not end")? {
            let Some((key, value)) = field.split_once('=') else {
                return Err(format!("has `{field}`, which lacks a `=`"));
            };
            match key.to_lowercase().as_str() {
                "type" if value == "file" || value == "env" => value.clone_into(&mut kind),
                "type" => return Err(format!("has the type `{value}`; it is `file` or `env`")),
                "id" => value.clone_into(&mut fields.id),
                "src" | "source" => fields.file = Some(value.to_owned()),
                "env" => fields.variable = Some(value.to_owned()),
                _ => return Err(format!("has `{key}`, which means nothing there")),
            }
        }
        if kind == "env" && fields.variable.is_none() {
            fields.variable = fields.file.take();
        }
        if kind == "file" && fields.variable.is_some() {
            return Err("is a file and has `env`".to_owned());
        }
        Ok(fields)
    }
}

/// Reads a secret as `docker buildx build` does: a file precedes a variable, and an id alone is a variable, or else a
/// file.
fn read_secret(fields: &SecretSpec) -> Result<SecretValue, Failure> {
    let id = &fields.id;
    let variable = |name: &str| ambient::env_var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec);
    let bytes = match (&fields.file, &fields.variable) {
        (Some(file), _) => read_secret_file(id, Path::new(file))?,
        (None, Some(name)) => variable(name).ok_or_else(|| {
            let failure = Failure::usage(format!("the secret `{id}` is to be the variable `{name}`, which is not set"));
            failure.help(format!("set it, and pass it on if dram runs below another program: `export {name}`"))
        })?,
        (None, None) => match variable(id) {
            Some(bytes) => bytes,
            None => read_secret_file(id, Path::new(id))?,
        },
    };
    match bytes.len() as u64 > SecretValue::MAX_SIZE {
        true => Err(Failure::usage(format!("the secret `{id}` is longer than {} KiB", SecretValue::MAX_SIZE >> 10))),
        false => Ok(SecretValue::new(bytes)),
    }
}

fn read_secret_file(id: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let fail = |error: &std::io::Error| {
        Failure::usage(format!("cannot read the secret `{id}` from `{}`", path.display())).because(error)
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| fail(&error))?;
    file.take(SecretValue::MAX_SIZE + 1).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
    Ok(bytes)
}

/// The agent sockets of `--ssh`, by id.
pub(crate) fn parse_agents(texts: &[String]) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut all = BTreeMap::new();
    for text in texts {
        let (id, path) = text.split_once('=').unwrap_or((text, ""));
        let id = if id.is_empty() { "default" } else { id };
        if all.insert(id.to_owned(), parse_agent(text, path)?).is_some() {
            return Err(Failure::usage(format!("`--ssh` gives `{id}` twice")));
        }
    }
    Ok(all)
}

/// The agent of `--ssh default`, if it is given.
pub(super) fn default_agent(texts: &[String]) -> Result<Option<PathBuf>, Failure> {
    Ok(parse_agents(texts)?.remove("default"))
}

fn parse_agent(text: &str, path: &str) -> Result<PathBuf, Failure> {
    let start = "start one with `eval $(ssh-agent)` and `ssh-add`";
    let path = match path {
        "" => ambient::env_var("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).ok_or_else(|| {
            Failure::usage(format!("`--ssh {text}` means the running ssh agent, and SSH_AUTH_SOCK is not set"))
                .help(start)
        })?,
        path => path.to_owned(),
    };
    let kind = std::fs::metadata(&path).map_err(|error| {
        Failure::usage(format!("`--ssh {text}`: cannot look at `{path}`")).because(&error).help(start)
    })?;
    if kind.file_type().is_socket() {
        let absolute = std::path::absolute(&path);
        return absolute.map_err(|error| Failure::usage(format!("`{path}` cannot be a path")).because(&error));
    }
    let first = path.split(',').next().unwrap_or_default();
    let failure = Failure::usage(format!("`--ssh {text}` does not name the socket of an ssh agent"));
    Err(failure
        .help(format!("keys are given by way of an agent: `eval $(ssh-agent)`, `ssh-add {first}`, `--ssh default`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_option_is_parsed_as_csv_fields() {
        let fields = |id: &str, file: Option<&str>, variable: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            Ok(SecretSpec { id: id.to_owned(), file: text(file), variable: text(variable) })
        };
        let cases = [
            ("id=a", fields("a", None, None)),
            ("id=a,src=f", fields("a", Some("f"), None)),
            ("type=file,id=a,source=f", fields("a", Some("f"), None)),
            ("ID=a,env=V", fields("a", None, Some("V"))),
            ("type=env,id=a,src=V", fields("a", None, Some("V"))),
            ("id=a,\"src=f,g\"", fields("a", Some("f,g"), None)),
            ("id=a,\"src=f\"\"g\"", fields("a", Some("f\"g"), None)),
            ("src=f", fields("", Some("f"), None)),
        ];
        for (text, expected) in cases {
            assert_eq!(SecretSpec::parse(text), expected, "{text}");
        }
        for text in ["id", "id=a,name=b", "type=socket,id=a", "id=a,\"src=f", "type=file,id=a,env=V"] {
            assert!(SecretSpec::parse(text).is_err(), "{text}");
        }
    }
}
