//! The settings of a build that do not come from the Dockerfile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dram_image::Reference;

use crate::ordered_env::OrderedEnv;

/// The build settings from the command line: target, build arguments, named contexts and platforms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildSettings {
    /// The stage to build; the last one when `None`.
    pub target: Option<String>,
    /// True to plan all stages, not only those that the target needs.
    pub all_stages: bool,
    /// Build arguments: values for `ARG`.
    pub build_args: BTreeMap<String, String>,
    /// The names of named contexts, which replace the images or stages of these names.
    pub contexts: BTreeSet<String>,
    /// The operating system of the target platform, under its Go name.
    pub os: String,
    /// The architecture of the target platform, under its Go name.
    pub architecture: String,
    /// The variant of the architecture.
    pub variant: Option<String>,
    /// The build platform, when it is not the target platform.
    pub build_platform: Option<PlatformSpec>,
}

impl BuildSettings {
    /// Returns the target platform as `os/architecture[/variant]`.
    pub fn platform(&self) -> String {
        let mut platform = format!("{}/{}", self.os, self.architecture);
        if let Some(variant) = self.variant.as_deref().filter(|variant| !variant.is_empty()) {
            platform.push('/');
            platform.push_str(variant);
        }
        platform
    }

    /// Returns the named context that replaces `name`, an image or a stage: the one with that name, or with another
    /// spelling of the same image (`busybox` and `docker.io/library/busybox:latest`). `scratch` is never replaced.
    pub fn context_for(&self, name: &str) -> Option<&str> {
        if self.contexts.is_empty() || ["scratch", "context"].iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return None;
        }
        if let Some(context) = self.contexts.get(name) {
            return Some(context);
        }
        let wanted: Reference = name.parse().ok()?;
        let same = |context: &&String| context.parse::<Reference>().is_ok_and(|own| own == wanted);
        self.contexts.iter().find(same).map(String::as_str)
    }

    /// Returns the predefined platform arguments, which `FROM` can use undeclared; inside a stage they need an `ARG`. A
    /// build argument of the same name wins.
    pub(crate) fn platform_args(&self, target: &str) -> OrderedEnv {
        let own = PlatformSpec {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone().unwrap_or_default(),
        };
        let builder = self.build_platform.as_ref().unwrap_or(&own);
        let (platform, builds) = (own.to_string(), builder.to_string());
        let target = if target.is_empty() { "default" } else { target };
        let table = [
            ("BUILDPLATFORM", builds.as_str()),
            ("BUILDOS", &builder.os),
            ("BUILDOSVERSION", ""),
            ("BUILDARCH", &builder.architecture),
            ("BUILDVARIANT", &builder.variant),
            ("TARGETPLATFORM", &platform),
            ("TARGETOS", &own.os),
            ("TARGETOSVERSION", ""),
            ("TARGETARCH", &own.architecture),
            ("TARGETVARIANT", &own.variant),
            ("TARGETSTAGE", target),
        ];
        let mut env = OrderedEnv::default();
        for (name, value) in table {
            env.set(name, self.build_args.get(name).map_or(value, String::as_str));
        }
        env
    }

    /// Returns the proxies given as build arguments, each in capitals and in lower case. A `RUN` gets them without an
    /// `ARG`, and they are part of neither the cache key nor the history.
    pub(crate) fn proxy_env(&self) -> Vec<(String, String)> {
        let mut proxies = Vec::new();
        for name in ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"] {
            let given = self.build_args.iter().rev().find(|(given, _)| given.eq_ignore_ascii_case(name));
            if let Some((_, value)) = given.filter(|(_, value)| !value.is_empty()) {
                proxies.push((name.to_ascii_uppercase(), value.clone()));
                proxies.push((name.to_owned(), value.clone()));
            }
        }
        proxies
    }

    /// Returns true when `platform`, a value of `FROM --platform`, is the target platform; `None` when it is invalid.
    pub(crate) fn builds_for(&self, platform: &str) -> Option<bool> {
        let wanted = PlatformSpec::parse(platform)?;
        let own = PlatformSpec::new(&self.os, &self.architecture, self.variant.as_deref().unwrap_or_default());
        let os = wanted.os.is_empty() || wanted.os == own.os;
        let architecture =
            wanted.architecture.is_empty() || wanted.architecture == own.architecture && wanted.variant == own.variant;
        Some(os && architecture)
    }
}

/// A platform with normalised (Go) names; parts that are not given are empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlatformSpec {
    /// The operating system.
    pub os: String,
    /// The architecture of the processor.
    pub architecture: String,
    /// The variant of the architecture, such as `v7`.
    pub variant: String,
}

impl fmt::Display for PlatformSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.os, &self.architecture, &self.variant].into_iter().filter(|part| !part.is_empty());
        out.write_str(&parts.map(String::as_str).collect::<Vec<_>>().join("/"))
    }
}

impl PlatformSpec {
    fn new(os: &str, architecture: &str, variant: &str) -> PlatformSpec {
        let os = os.to_ascii_lowercase();
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
            ("x86_64" | "x86-64", other) => ("amd64", other),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
            ("aarch64", other) => ("arm64", other),
            ("i386" | "i686", _) => ("386", ""),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            (architecture, variant) => (architecture, variant),
        };
        let os = if os == "macos" { "darwin".to_owned() } else { os };
        PlatformSpec { os, architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// Parses `os`, `architecture`, `os/architecture` or `os/architecture/variant` in any usual spelling; `None` when
    /// the text is not a platform.
    pub fn parse(text: &str) -> Option<PlatformSpec> {
        let parts: Vec<&str> = text.split('/').collect();
        let proper = |part: &&str| {
            !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
        };
        if !parts.iter().all(proper) {
            return None;
        }
        match parts.as_slice() {
            [os] if ["linux", "windows", "darwin", "macos", "freebsd"].contains(os) => {
                Some(PlatformSpec::new(os, "", ""))
            }
            [architecture] => Some(PlatformSpec::new("", architecture, "")),
            [os, architecture] => Some(PlatformSpec::new(os, architecture, "")),
            [os, architecture, variant] => Some(PlatformSpec::new(os, architecture, variant)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(os: &str, architecture: &str, variant: Option<&str>) -> BuildSettings {
        BuildSettings {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
            ..BuildSettings::default()
        }
    }

    #[test]
    fn platform_specs_are_compared_with_the_target_platform() {
        let amd64 = settings("linux", "amd64", None);
        let arm64 = settings("linux", "arm64", Some("v8"));
        let table = [
            (&amd64, "linux/amd64", Some(true)),
            (&amd64, "linux/x86_64", Some(true)),
            (&amd64, "amd64", Some(true)),
            (&amd64, "linux", Some(true)),
            (&amd64, "linux/arm64", Some(false)),
            (&amd64, "bogus/arch", Some(false)),
            (&amd64, "windows/amd64", Some(false)),
            (&amd64, "a/b/c/d", None),
            (&amd64, "", None),
            (&amd64, "linux/", None),
            (&arm64, "linux/arm64", Some(true)),
            (&arm64, "linux/arm64/v8", Some(true)),
            (&arm64, "linux/arm64/v9", Some(false)),
        ];
        for (settings, platform, expected) in table {
            assert_eq!(settings.builds_for(platform), expected, "{platform}");
        }
        assert_eq!(arm64.platform(), "linux/arm64/v8");
        let cross = BuildSettings { build_platform: PlatformSpec::parse("aarch64"), ..amd64 };
        let args = cross.platform_args("");
        assert_eq!((args.get("BUILDARCH"), args.get("TARGETARCH")), (Some("arm64"), Some("amd64")));
        assert_eq!((args.get("BUILDPLATFORM"), args.get("TARGETPLATFORM")), (Some("arm64"), Some("linux/amd64")));
    }

    #[test]
    fn named_contexts_match_any_spelling_of_an_image() {
        let mut settings = settings("linux", "amd64", None);
        settings.contexts.extend(["docker.io/library/busybox:latest".into(), "site".into(), "scratch".into()]);
        let table = [
            ("busybox", Some("docker.io/library/busybox:latest")),
            ("busybox:latest", Some("docker.io/library/busybox:latest")),
            ("busybox:1", None),
            ("site", Some("site")),
            ("docker.io/library/site", Some("site")),
            ("scratch", None),
            ("not/an:image:", None),
        ];
        for (name, expected) in table {
            assert_eq!(settings.context_for(name), expected, "{name}");
        }
    }

    #[test]
    fn proxy_build_args_are_set_in_both_cases() {
        let mut settings = settings("linux", "amd64", None);
        settings.build_args.insert("HTTP_PROXY".into(), "http://p".into());
        settings.build_args.insert("no_proxy".into(), String::new());
        let proxies = settings.proxy_env();
        let names: Vec<&str> = proxies.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["HTTP_PROXY", "http_proxy"]);
    }
}
