//! `--platform`: the platform of a build.

use dram_dockerfile::PlatformSpec;

use crate::failure::Failure;
use crate::{ambient, cli};

/// The platform of this machine.
pub(super) fn host_platform() -> PlatformSpec {
    let text = format!("linux/{}", ambient::architecture());
    PlatformSpec::parse(&text).expect("an architecture is a plain word")
}

/// The platform of `args`; without one, this machine's.
pub(super) fn target_platform(args: &cli::BuildCommandArgs) -> Result<PlatformSpec, Failure> {
    let mut all = args.platform.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty());
    let Some(text) = all.next() else { return Ok(host_platform()) };
    if let Some(other) = all.find(|other| *other != text) {
        let failure = Failure::usage(format!("`--platform {text},{other}`: an image is for one platform"));
        return Err(failure.help("build once for each, and give each its own name"));
    }
    if text == "local" {
        return Ok(host_platform());
    }
    let wrong =
        || Failure::usage(format!("`--platform {text}` is no platform")).help("as `linux/amd64` or `linux/arm64`");
    let mut platform = PlatformSpec::parse(text).ok_or_else(wrong)?;
    let own = host_platform();
    if platform.os.is_empty() {
        platform.os.clone_from(&own.os);
    }
    if platform.architecture.is_empty() {
        (platform.architecture, platform.variant) = (own.architecture, own.variant);
    }
    if platform.os != "linux" {
        let failure = Failure::usage(format!("`--platform {text}`: images are for Linux"));
        return Err(failure.help("as `linux/amd64` or `linux/arm64`"));
    }
    Ok(platform)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, CliCommand};

    fn asked_for(platforms: &[&str]) -> Result<String, Failure> {
        let words = platforms.iter().flat_map(|platform| ["--platform", platform]);
        let line = ["dram", "build"].into_iter().chain(words).chain(["."]);
        let CliCommand::Build(args) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
        target_platform(&args).map(|platform| platform.to_string())
    }

    #[test]
    fn platforms_are_read_in_the_usual_spellings() {
        let here = host_platform().to_string();
        for (given, want) in [
            (&[][..], here.as_str()),
            (&["local"], &here),
            (&["linux"], &here),
            (&["linux/x86_64"], "linux/amd64"),
            (&["amd64"], "linux/amd64"),
            (&["linux/arm64/v8"], "linux/arm64"),
            (&["linux/arm64,linux/arm64"], "linux/arm64"),
            (&["linux/arm"], "linux/arm/v7"),
        ] {
            assert_eq!(asked_for(given).unwrap(), want, "{given:?}");
        }
        for given in
            [&["linux/amd64,linux/arm64"][..], &["linux/amd64", "linux/arm64"], &["a/b/c/d"], &["windows/amd64"]]
        {
            assert_eq!(asked_for(given).unwrap_err().code(), 2, "{given:?}");
        }
    }
}
