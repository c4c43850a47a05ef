//! The class and the help of each error of this crate.

use dram_error::{ErrorClass, ErrorReport};
use dram_sandbox::SandboxError;
use dram_store::exhausted_resource_help;

use crate::shared_cache::SharedCacheError;
use crate::{BuildError, ExportError, LayerError, RemoteError, RemoteErrorKind, TransferError};

impl ErrorReport for BuildError {
    fn class(&self) -> ErrorClass {
        match self {
            BuildError::CommandStart { source, .. } => source.class(),
            BuildError::Store(error) => error.class(),
            BuildError::Cancelled => ErrorClass::Interrupted,
            BuildError::AtLine(_) | BuildError::CommandFailed { .. } | BuildError::CacheLost { .. } => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        match self {
            BuildError::AtLine(diagnostic) => diagnostic.helps.clone(),
            BuildError::CommandFailed { missing_loader, id_count, kept, .. } => {
                let missing = missing_loader.clone().map(|paths| {
                    let (program, interpreter) = *paths;
                    SandboxError::MissingInterpreter { program, interpreter }
                });
                let mut helps = missing.map(|missing| missing.helps()).unwrap_or_default();
                helps.extend(id_count.map(|count| {
                    format!(
                        "if it gives a file to another owner: this user has only {count} ids; root can give more in \
                         /etc/subuid and /etc/subgid"
                    )
                }));
                if *kept {
                    helps.push("look at what it left with `dram shell --failed`".to_owned());
                }
                helps
            }
            BuildError::CommandStart { source, .. } => source.helps(),
            BuildError::Store(error) => error.helps(),
            BuildError::CacheLost { .. } | BuildError::Cancelled => Vec::new(),
        }
    }

    fn causes(&self) -> Vec<String> {
        if let BuildError::Store(error) = self {
            return error.causes();
        }
        dram_error::error_chain(self)
    }

    fn output(&self) -> Vec<String> {
        match self {
            BuildError::CommandFailed { tail, .. } => tail.clone(),
            BuildError::AtLine(_)
            | BuildError::CommandStart { .. }
            | BuildError::Store(_)
            | BuildError::CacheLost { .. }
            | BuildError::Cancelled => Vec::new(),
        }
    }
}

impl ErrorReport for LayerError {
    fn class(&self) -> ErrorClass {
        match self {
            LayerError::Store(error) => error.class(),
            LayerError::Lost { .. } => ErrorClass::Work,
            LayerError::Cancelled => ErrorClass::Interrupted,
        }
    }

    fn helps(&self) -> Vec<String> {
        match self {
            LayerError::Store(error) => error.helps(),
            LayerError::Lost { .. } | LayerError::Cancelled => Vec::new(),
        }
    }

    fn causes(&self) -> Vec<String> {
        if let LayerError::Store(error) = self {
            return error.causes();
        }
        dram_error::error_chain(self)
    }
}

impl ErrorReport for TransferError {
    fn class(&self) -> ErrorClass {
        match self {
            TransferError::Store(error) => error.class(),
            TransferError::Remote(error) => error.class(),
            TransferError::Cancelled => ErrorClass::Interrupted,
            TransferError::Read { .. }
            | TransferError::Write { .. }
            | TransferError::NoImages(_)
            | TransferError::NotALayout(_)
            | TransferError::SkopeoDir(_)
            | TransferError::NotAnImage { .. }
            | TransferError::Document { .. }
            | TransferError::Blob { .. }
            | TransferError::NoPlatform { .. }
            | TransferError::UnsupportedContent { .. } => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        match self {
            TransferError::Store(error) => error.helps(),
            TransferError::Remote(error) => error.helps(),
            TransferError::Read { source, .. } | TransferError::Write { source, .. } => {
                exhausted_resource_help(source).map(str::to_owned).into_iter().collect()
            }
            TransferError::SkopeoDir(path) => {
                vec![format!("`skopeo copy dir:{0} oci:LAYOUT:TAG` makes a layout of it", path.display())]
            }
            TransferError::NotAnImage { obstacle, .. } => vec![obstacle.help().to_owned()],
            TransferError::NoImages(_)
            | TransferError::NotALayout(_)
            | TransferError::Document { .. }
            | TransferError::Blob { .. }
            | TransferError::NoPlatform { .. }
            | TransferError::UnsupportedContent { .. }
            | TransferError::Cancelled => Vec::new(),
        }
    }

    fn causes(&self) -> Vec<String> {
        if let TransferError::Store(error) = self {
            return error.causes();
        }
        if let TransferError::Remote(error) = self {
            return error.causes();
        }
        dram_error::error_chain(self)
    }
}

impl ErrorReport for RemoteError {
    fn class(&self) -> ErrorClass {
        match self.kind {
            RemoteErrorKind::Refused(_) => ErrorClass::Refused,
            RemoteErrorKind::Failed => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        self.help.iter().cloned().collect()
    }

    fn causes(&self) -> Vec<String> {
        self.causes.clone()
    }
}

impl ErrorReport for ExportError {
    fn class(&self) -> ErrorClass {
        match self {
            ExportError::Store(error) => error.class(),
            ExportError::InTheWay(_) | ExportError::Device(_) | ExportError::Write { .. } => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        let help = match self {
            ExportError::Store(error) => return error.helps(),
            ExportError::InTheWay(_) => {
                "remove it, or name another directory: dram replaces files, not what is in the way of them"
            }
            ExportError::Device(_) => "`--output type=tar,dest=FILE` takes devices along",
            ExportError::Write { .. } => return Vec::new(),
        };
        vec![help.to_owned()]
    }

    fn causes(&self) -> Vec<String> {
        if let ExportError::Store(error) = self {
            return error.causes();
        }
        dram_error::error_chain(self)
    }
}

impl ErrorReport for SharedCacheError {
    fn class(&self) -> ErrorClass {
        match self {
            SharedCacheError::Transfer(error) => error.class(),
            SharedCacheError::Document { .. }
            | SharedCacheError::BuildKit(_)
            | SharedCacheError::NoInlineCache(_)
            | SharedCacheError::NoPlatform(_) => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        match self {
            SharedCacheError::Transfer(error) => error.helps(),
            SharedCacheError::Document { .. }
            | SharedCacheError::BuildKit(_)
            | SharedCacheError::NoInlineCache(_)
            | SharedCacheError::NoPlatform(_) => Vec::new(),
        }
    }

    fn causes(&self) -> Vec<String> {
        if let SharedCacheError::Transfer(error) = self {
            return error.causes();
        }
        dram_error::error_chain(self)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::path::PathBuf;

    use dram_error::AnyReport;
    use dram_image::{Digest, DocumentError, RegistryErrorCode, RegistryRefusal};
    use dram_store::StoreError;

    use super::*;

    fn refused() -> TransferError {
        let codes = vec![RegistryErrorCode::ManifestBlobUnknown];
        let refusal = RegistryRefusal { request: "write the manifest".to_owned(), status: Some(404), codes };
        TransferError::Remote(RemoteError {
            kind: RemoteErrorKind::Refused(refusal),
            causes: vec!["cannot write".to_owned(), "404".to_owned()],
            help: Some("look".to_owned()),
        })
    }

    fn failed() -> TransferError {
        TransferError::Remote(RemoteError { kind: RemoteErrorKind::Failed, causes: Vec::new(), help: None })
    }

    #[test]
    fn class_and_help_of_a_transfer_follow_from_the_variant() {
        let (digest, text) = (Digest::of(b""), String::new);
        let document = DocumentError::Invalid { what: "the index", why: text() };
        let read = |kind: ErrorKind| TransferError::Read { place: text(), source: kind.into() };
        let full = TransferError::Write { place: PathBuf::new(), source: ErrorKind::StorageFull.into() };
        let table = [
            (read(ErrorKind::NotFound), ErrorClass::Work, false),
            (full, ErrorClass::Work, true),
            (TransferError::NoImages(PathBuf::new()), ErrorClass::Work, false),
            (TransferError::NotALayout(PathBuf::new()), ErrorClass::Work, false),
            (TransferError::Document { place: text(), file: text(), source: document }, ErrorClass::Work, false),
            (TransferError::Blob { place: text(), digest, why: text() }, ErrorClass::Work, false),
            (TransferError::NoPlatform { place: text(), platform: text() }, ErrorClass::Work, false),
            (TransferError::UnsupportedContent { place: text(), what: "" }, ErrorClass::Work, false),
            (refused(), ErrorClass::Refused, true),
            (failed(), ErrorClass::Work, false),
            (StoreError::DamagedBlob { digest, why: text() }.into(), ErrorClass::Work, true),
            (TransferError::Cancelled, ErrorClass::Interrupted, false),
        ];
        for (error, class, has_help) in table {
            assert_eq!((error.class(), !error.helps().is_empty()), (class, has_help), "{error:?}");
        }
        assert!(refused().is_blob_missing() && !failed().is_blob_missing());
    }

    #[test]
    fn wrapping_errors_have_class_help_and_causes_of_the_wrapped_one() {
        let unfetched = || StoreError::FetchFailed { digest: Digest::of(b""), source: AnyReport::new(refused()) };
        let wrapped: [Box<dyn ErrorReport>; 5] = [
            Box::new(LayerError::Store(unfetched())),
            Box::new(BuildError::Store(unfetched())),
            Box::new(ExportError::Store(unfetched())),
            Box::new(TransferError::Store(unfetched())),
            Box::new(SharedCacheError::Transfer(TransferError::Store(unfetched()))),
        ];
        for error in wrapped {
            assert_eq!((error.class(), error.helps()), (ErrorClass::Refused, vec!["look".to_owned()]), "{error:?}");
            assert_eq!(error.causes()[1..], ["cannot write", "404"], "{error:?}");
        }
    }

    #[test]
    fn class_and_help_of_a_build_follow_from_the_variant() {
        let command = |kept, missing_loader, id_count| BuildError::CommandFailed {
            text: String::new(),
            span: 0..0,
            code: 1,
            tail: vec!["line".to_owned()],
            missing_loader,
            id_count,
            kept,
        };
        let start = BuildError::CommandStart { text: String::new(), span: 0..0, source: SandboxError::Insecure };
        let loader = Some(Box::new(("sh".to_owned(), "ld-musl".to_owned())));
        for (error, class, helps) in [
            (command(false, None, None), ErrorClass::Work, 0),
            (command(true, None, None), ErrorClass::Work, 1),
            (command(true, None, Some(65_537)), ErrorClass::Work, 2),
            (command(true, loader, None), ErrorClass::Work, 2),
            (start, ErrorClass::MissingSupport, 1),
            (BuildError::Cancelled, ErrorClass::Interrupted, 0),
        ] {
            assert_eq!((error.class(), error.helps().len()), (class, helps), "{error:?}");
        }
        assert_eq!(command(false, None, None).output(), ["line"]);
    }
}
