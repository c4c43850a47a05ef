//! The checks that only warn, under the names BuildKit gives them, so that one `# check=skip=…` serves both.

/// A check that can be skipped by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The name, as in `# check=skip=Name`.
    pub name: &'static str,
    /// What it asks for.
    pub about: &'static str,
}

macro_rules! rules {
    ($($constant:ident = $name:literal: $about:literal;)*) => {
        $(
            #[doc = $about]
            pub const $constant: Rule = Rule { name: $name, about: $about };
        )*

        /// Every rule there is.
        pub const ALL: &[Rule] = &[$($constant),*];
    };
}

rules! {
    STAGE_NAME_CASING = "StageNameCasing": "stage names are lower case";
    FROM_AS_CASING = "FromAsCasing": "`FROM` and `AS` have the same case";
    NO_EMPTY_CONTINUATION = "NoEmptyContinuation": "no empty lines inside an instruction";
    CONSISTENT_INSTRUCTION_CASING = "ConsistentInstructionCasing": "all instructions have the same case";
    DUPLICATE_STAGE_NAME = "DuplicateStageName": "each stage has a name of its own";
    RESERVED_STAGE_NAME = "ReservedStageName": "no stage is called `scratch` or `context`";
    JSON_ARGS_RECOMMENDED = "JSONArgsRecommended": "`CMD` and `ENTRYPOINT` are JSON, so that signals arrive";
    MAINTAINER_DEPRECATED = "MaintainerDeprecated": "a label names the author, not `MAINTAINER`";
    UNDEFINED_ARG_IN_FROM = "UndefinedArgInFrom": "`FROM` uses arguments declared before it";
    UNDEFINED_VAR = "UndefinedVar": "variables are defined before they are used";
    WORKDIR_RELATIVE_PATH = "WorkdirRelativePath": "a stage's first `WORKDIR` is absolute";
    MULTIPLE_INSTRUCTIONS_DISALLOWED = "MultipleInstructionsDisallowed":
        "one `CMD`, `ENTRYPOINT` and `HEALTHCHECK` for each stage";
    LEGACY_KEY_VALUE_FORMAT = "LegacyKeyValueFormat": "`ENV` and `LABEL` are written `name=value`";
    REDUNDANT_TARGET_PLATFORM = "RedundantTargetPlatform": "`--platform=$TARGETPLATFORM` is the default";
    SECRETS_USED_IN_ARG_OR_ENV = "SecretsUsedInArgOrEnv": "`ARG` and `ENV` hold no secrets";
    INVALID_DEFAULT_ARG_IN_FROM = "InvalidDefaultArgInFrom": "`FROM` names an image without build arguments too";
    FROM_PLATFORM_FLAG_CONST_DISALLOWED = "FromPlatformFlagConstDisallowed":
        "`FROM --platform` is a variable, or said by the stage's name";
    EXPOSE_PROTO_CASING = "ExposeProtoCasing": "protocols in `EXPOSE` are lower case";
    EXPOSE_INVALID_FORMAT = "ExposeInvalidFormat": "`EXPOSE` names ports of the container only";
}
