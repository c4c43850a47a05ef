//! Annotations of an image, in the syntax of `--annotation` and `--output`.

use std::collections::BTreeMap;

use dram_dockerfile::PlatformSpec;

use crate::ambient;
use crate::failure::Failure;

/// The document that has an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AnnotationTarget {
    /// The manifest.
    Manifest,
    /// The descriptor of the manifest.
    Descriptor,
}

/// Annotations by document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ImageAnnotations(BTreeMap<AnnotationTarget, BTreeMap<String, String>>);

impl ImageAnnotations {
    /// Sets an annotation.
    pub(super) fn set(&mut self, side: AnnotationTarget, key: &str, value: &str) {
        self.0.entry(side).or_default().insert(key.to_owned(), value.to_owned());
    }

    /// Removes and returns the annotations of one document.
    pub(super) fn take(&mut self, side: AnnotationTarget) -> BTreeMap<String, String> {
        self.0.remove(&side).unwrap_or_default()
    }
}

/// Parses `[TYPE[,TYPE]:]KEY=VALUE`, for each `--annotation`.
pub(super) fn parse_annotations(texts: &[String]) -> Result<ImageAnnotations, Failure> {
    let mut all = ImageAnnotations::default();
    for text in texts {
        let wrong = |why: &str| {
            let failure = Failure::usage(format!("`--annotation {text}`: {why}"));
            failure.help("`--annotation KEY=VALUE`, or `--annotation manifest-descriptor:KEY=VALUE`")
        };
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("it is not KEY=VALUE"))?;
        let (sides, name) = key.split_once(':').unwrap_or(("manifest", key));
        if name.is_empty() {
            return Err(wrong("it has no name"));
        }
        for side in sides.split(',') {
            all.set(self::parse_target(side).map_err(|why| wrong(&why))?, name, value);
        }
    }
    Ok(all)
}

/// Parses a key of `--output`: `annotation.NAME`, `annotation-TYPE.NAME`, either with `[PLATFORM]`. Returns the
/// document and the name, or an error message.
pub(super) fn parse_output_key(text: &str) -> Result<(AnnotationTarget, &str), String> {
    let (kind, name) = text.split_once('.').unwrap_or((text, ""));
    let kind = match kind.strip_prefix("annotation") {
        Some("") => "manifest".to_owned(),
        Some(rest) if rest.starts_with('[') => format!("manifest{rest}"),
        Some(rest) if rest.starts_with('-') => rest[1..].to_owned(),
        Some(_) | None => return Err(format!("there is no key `{text}`")),
    };
    if name.is_empty() {
        return Err(format!("`{text}` names no annotation"));
    }
    Ok((parse_target(&kind)?, name))
}

/// Parses `manifest`, `manifest-descriptor` and the like. A platform in brackets must be this machine's.
fn parse_target(text: &str) -> Result<AnnotationTarget, String> {
    let (kind, platform) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        Some((kind, platform)) => (kind, Some(platform)),
        None => (text, None),
    };
    if let Some(platform) = platform {
        let here =
            PlatformSpec::parse(platform).is_some_and(|platform| platform.architecture == ambient::architecture());
        if !here {
            return Err(format!("the image is not for the platform `{platform}`"));
        }
    }
    match kind {
        "manifest" => Ok(AnnotationTarget::Manifest),
        "manifest-descriptor" => Ok(AnnotationTarget::Descriptor),
        "index" | "index-descriptor" => {
            Err(format!("`{kind}` needs an index of several platforms, and the image is for one"))
        }
        other => Err(format!("there is no annotation type `{other}`: it is manifest or manifest-descriptor")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotation_type_selects_manifest_or_descriptor() {
        let texts = ["a=1", "manifest:b=2", "manifest-descriptor:c=x=y", "manifest,manifest-descriptor:d="];
        let mut all = parse_annotations(&texts.map(str::to_owned)).unwrap();
        let pairs =
            |side: BTreeMap<String, String>| side.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>();
        assert_eq!(pairs(all.take(AnnotationTarget::Manifest)), ["a=1", "b=2", "d="]);
        assert_eq!(pairs(all.take(AnnotationTarget::Descriptor)), ["c=x=y", "d="]);
    }

    #[test]
    fn malformed_annotations_are_refused() {
        for (text, want) in [
            ("a", "KEY=VALUE"),
            ("=1", "no name"),
            ("index:a=1", "several platforms"),
            ("manifst:a=1", "no annotation type `manifst`"),
            ("manifest[linux/none]:a=1", "not for the platform"),
        ] {
            let failure = parse_annotations(&[text.to_owned()]).unwrap_err();
            assert!(failure.causes[0].contains(want), "{text}: {:?}", failure.causes);
        }
    }

    #[test]
    fn output_key_selects_document_and_annotation_name() {
        assert_eq!(parse_output_key("annotation.org.x"), Ok((AnnotationTarget::Manifest, "org.x")));
        assert_eq!(
            parse_output_key("annotation-manifest-descriptor.org.x"),
            Ok((AnnotationTarget::Descriptor, "org.x"))
        );
        for text in ["annotation", "annotations.a", "annotation-index.a", "annotation."] {
            assert!(parse_output_key(text).is_err(), "{text}");
        }
    }
}
