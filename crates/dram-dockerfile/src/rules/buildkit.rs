//! The rules of BuildKit (`frontend/dockerfile/linter/ruleset.go`), in its order.

use super::{LintRule, RuleActivation, RuleOrigin, RuleScope};

/// The defaults of these rules.
const RULE_DEFAULTS: LintRule = LintRule {
    name: "",
    about: "",
    why: "",
    bad: "",
    good: "",
    ignore: None,
    origin: RuleOrigin::BuildKit,
    activation: RuleActivation::Always,
    scope: RuleScope::File,
};

/// Stage names are lower case.
pub const STAGE_NAME_CASING: LintRule = LintRule {
    name: "StageNameCasing",
    about: "stage names are lower case",
    why: "`FROM` finds a stage by its name in lower case, and `COPY --from` in any case. A name that is lower case \
          everywhere works with both.",
    bad: "FROM debian:13 AS Build\nRUN make\n",
    good: "FROM debian:13 AS build\nRUN make\n",
    ..RULE_DEFAULTS
};

/// `FROM` and `AS` have the same case.
pub const FROM_AS_CASING: LintRule = LintRule {
    name: "FromAsCasing",
    about: "`AS` is written in the case of its `FROM`",
    why: "Keywords in one case are easier to tell from names.",
    bad: "FROM debian:13 as build\nRUN make\n",
    good: "FROM debian:13 AS build\nRUN make\n",
    ..RULE_DEFAULTS
};

/// No empty lines inside an instruction.
pub const NO_EMPTY_CONTINUATION: LintRule = LintRule {
    name: "NoEmptyContinuation",
    about: "there are no empty lines inside an instruction",
    why: "The escape at the end of a line says that the next line belongs to it. If that is empty, one of the two is a \
          mistake, and other builders may end the instruction there. Comments between the lines are fine.",
    bad: "FROM debian:13\nRUN make && \\\n\n    make install\n",
    good: "FROM debian:13\nRUN make && \\\n    # as root\n    make install\n",
    ..RULE_DEFAULTS
};

/// All instructions have the same case.
pub const CONSISTENT_INSTRUCTION_CASING: LintRule = LintRule {
    name: "ConsistentInstructionCasing",
    about: "all instructions are written in the same case",
    why: "Capitals or not: the file decides by what most of its instructions have.",
    bad: "FROM debian:13\nCOPY src /src\nrun make\n",
    good: "FROM debian:13\nCOPY src /src\nRUN make\n",
    ..RULE_DEFAULTS
};

/// Each stage has a name of its own.
pub const DUPLICATE_STAGE_NAME: LintRule = LintRule {
    name: "DuplicateStageName",
    about: "each stage has a name of its own",
    why: "Of two stages with one name the later one is meant from then on, which is rarely what was wanted.",
    bad: "FROM debian:13 AS build\nRUN make\nFROM build AS build\nRUN make test\n",
    good: "FROM debian:13 AS build\nRUN make\nFROM build AS test\nRUN make test\n",
    ..RULE_DEFAULTS
};

/// No stage is called `scratch` or `context`.
pub const RESERVED_STAGE_NAME: LintRule = LintRule {
    name: "ReservedStageName",
    about: "no stage is called `scratch` or `context`",
    why: "These words have a meaning of their own: the empty image, and the directory that is built.",
    bad: "FROM debian:13 AS scratch\nRUN make\n",
    good: "FROM debian:13 AS build\nRUN make\n",
    ..RULE_DEFAULTS
};

/// `CMD` and `ENTRYPOINT` are JSON, so that signals arrive.
pub const JSON_ARGS_RECOMMENDED: LintRule = LintRule {
    name: "JSONArgsRecommended",
    about: "`CMD` and `ENTRYPOINT` are JSON, so that signals arrive",
    why: "A command that is not a JSON array is started by a shell. The shell is process 1, gets the signal to stop and \
          does not pass it on, so the program is killed instead of ending. With a `SHELL` instruction the shell is \
          deliberate and nothing is said.",
    bad: "FROM debian:13\nCMD my-server --port 80\n",
    good: "FROM debian:13\nCMD [\"my-server\", \"--port\", \"80\"]\n",
    scope: RuleScope::Stages,
    ..RULE_DEFAULTS
};

/// A label names the author, not `MAINTAINER`.
pub const MAINTAINER_DEPRECATED: LintRule = LintRule {
    name: "MaintainerDeprecated",
    about: "a label names the author, not `MAINTAINER`",
    why: "`MAINTAINER` is deprecated; a label is seen by every tool.",
    bad: "FROM debian:13\nMAINTAINER me@example.org\n",
    good: "FROM debian:13\nLABEL org.opencontainers.image.authors=\"me@example.org\"\n",
    ..RULE_DEFAULTS
};

/// `FROM` uses arguments declared before it.
pub const UNDEFINED_ARG_IN_FROM: LintRule = LintRule {
    name: "UndefinedArgInFrom",
    about: "`FROM` uses arguments that are declared before the first `FROM`",
    why: "An argument that is not declared is empty, and a build argument does not change that. An `ARG` inside a stage \
          does not count for `FROM`.",
    bad: "FROM debian:13${VARIANT}\nRUN make\n",
    good: "ARG VARIANT=-slim\nFROM debian:13${VARIANT}\nRUN make\n",
    ..RULE_DEFAULTS
};

/// A stage's first `WORKDIR` is absolute.
pub const WORKDIR_RELATIVE_PATH: LintRule = LintRule {
    name: "WorkdirRelativePath",
    about: "a stage's first `WORKDIR` is absolute",
    why: "A relative one starts at the working directory of the base image, and moves when the base image changes it.",
    bad: "FROM debian:13\nWORKDIR app\n",
    good: "FROM debian:13\nWORKDIR /app\n",
    scope: RuleScope::Stages,
    ..RULE_DEFAULTS
};

/// Variables are defined before they are used.
pub const UNDEFINED_VAR: LintRule = LintRule {
    name: "UndefinedVar",
    about: "variables are defined before they are used",
    why: "A variable that no `ARG` or `ENV` of the stage, and no base image, defines is empty. A global `ARG` needs an \
          `ARG` of its name in the stage. What a `RUN` gives to its shell is not looked at.",
    bad: "FROM debian:13\nARG SOURCE=src\nCOPY $SUORCE /src\n",
    good: "FROM debian:13\nARG SOURCE=src\nCOPY $SOURCE /src\n",
    scope: RuleScope::Stages,
    ..RULE_DEFAULTS
};

/// One `CMD`, `ENTRYPOINT` and `HEALTHCHECK` for each stage.
pub const MULTIPLE_INSTRUCTIONS_DISALLOWED: LintRule = LintRule {
    name: "MultipleInstructionsDisallowed",
    about: "a stage has one `CMD`, one `ENTRYPOINT` and one `HEALTHCHECK`",
    why: "Only the last of them counts. The one without an effect is shown.",
    bad: "FROM debian:13\nCMD [\"one\"]\nCMD [\"two\"]\n",
    good: "FROM debian:13\nENTRYPOINT [\"one\"]\nCMD [\"two\"]\n",
    scope: RuleScope::Stages,
    ..RULE_DEFAULTS
};

/// `ENV` and `LABEL` are written `name=value`.
pub const LEGACY_KEY_VALUE_FORMAT: LintRule = LintRule {
    name: "LegacyKeyValueFormat",
    about: "`ENV` and `LABEL` are written `name=value`",
    why: "In the old form `name value` all of the line is the value, quotes and equal signs included.",
    bad: "FROM debian:13\nENV MODE production\n",
    good: "FROM debian:13\nENV MODE=production\n",
    scope: RuleScope::Stages,
    ..RULE_DEFAULTS
};

/// A base image is of the platform that is built for.
pub const INVALID_BASE_IMAGE_PLATFORM: LintRule = LintRule {
    name: "InvalidBaseImagePlatform",
    about: "a base image is of the platform that is built for",
    why: "An image of another architecture has programs that do not run here, or not without an emulator. It is noticed \
          when the image is known: when it is in the store.",
    bad: "FROM --platform=linux/arm64 debian:13 AS arm64-tools\nCOPY src /src\n",
    good: "FROM debian:13 AS tools\nCOPY src /src\n",
    scope: RuleScope::Stages,
    ..RULE_DEFAULTS
};

/// `--platform=$TARGETPLATFORM` is the default.
pub const REDUNDANT_TARGET_PLATFORM: LintRule = LintRule {
    name: "RedundantTargetPlatform",
    about: "`FROM` leaves `--platform=$TARGETPLATFORM` out",
    why: "It is the default.",
    bad: "FROM --platform=$TARGETPLATFORM debian:13\nRUN make\n",
    good: "FROM debian:13\nRUN make\n",
    ..RULE_DEFAULTS
};

/// `ARG` and `ENV` hold no secrets.
pub const SECRETS_USED_IN_ARG_OR_ENV: LintRule = LintRule {
    name: "SecretsUsedInArgOrEnv",
    about: "no `ARG` or `ENV` has the name of a secret",
    why: "Both end up in the image's configuration or history, where everybody who has the image reads them. \
          `RUN --mount=type=secret` shows a secret to one command and leaves no trace. Names that contain `public`, \
          `file` or `version` as a word are fine.",
    bad: "FROM debian:13\nARG API_TOKEN\nRUN fetch\n",
    good: "FROM debian:13\nRUN --mount=type=secret,id=api_token,env=API_TOKEN fetch\n",
    scope: RuleScope::Stages,
    ..RULE_DEFAULTS
};

/// `FROM` names an image without build arguments too.
pub const INVALID_DEFAULT_ARG_IN_FROM: LintRule = LintRule {
    name: "InvalidDefaultArgInFrom",
    about: "`FROM` names an image when no build arguments are given too",
    why: "A file that builds only with the right `--build-arg` surprises whoever does not know it. Give the `ARG` a \
          default.",
    bad: "ARG VERSION\nFROM debian:${VERSION}\nRUN make\n",
    good: "ARG VERSION=13\nFROM debian:${VERSION}\nRUN make\n",
    ..RULE_DEFAULTS
};

/// `FROM --platform` is a variable, or said by the stage's name.
pub const FROM_PLATFORM_FLAG_CONST_DISALLOWED: LintRule = LintRule {
    name: "FromPlatformFlagConstDisallowed",
    about: "`FROM --platform` is a variable, or said by the stage's name",
    why: "A fixed platform makes a file for one kind of machine. Use `$BUILDPLATFORM` or `$TARGETPLATFORM`; where one \
          platform is really meant, put it into the name of the stage.",
    bad: "FROM --platform=linux/amd64 debian:13 AS tools\nRUN make\n",
    good: "FROM --platform=linux/amd64 debian:13 AS tools-amd64\nRUN make\n",
    ..RULE_DEFAULTS
};

/// No source of a `COPY` is left out by `.dockerignore`.
pub const COPY_IGNORED_FILE: LintRule = LintRule {
    name: "CopyIgnoredFile",
    about: "no source of a `COPY` or `ADD` is left out by `.dockerignore`",
    why: "The file is not a part of the build context, so the copy fails, or copies nothing. The pattern and its line \
          are shown. With exceptions (`!pattern`) in the list it is said only where nothing can come back.",
    bad: "FROM scratch\nCOPY notes/todo.md /\n",
    good: "FROM scratch\nCOPY src /src\n",
    ignore: Some("# what nobody needs in an image\nnotes\n"),
    scope: RuleScope::Stages,
    ..RULE_DEFAULTS
};

/// The comment above a stage or argument describes it.
pub const INVALID_DEFINITION_DESCRIPTION: LintRule = LintRule {
    name: "InvalidDefinitionDescription",
    about: "the comment right above a stage or argument starts with its name and describes it",
    why: "`--call=outline` and `--call=targets` show such comments. An empty comment (`#`) between the two says that \
          the comment above is something else.",
    bad: "# check=experimental=InvalidDefinitionDescription\n# the release\nFROM debian:13 AS release\nRUN make\n",
    good: "# check=experimental=InvalidDefinitionDescription\n# release has what runs in production\nFROM debian:13 AS \
           release\nRUN make\n",
    activation: RuleActivation::Experimental,
    ..RULE_DEFAULTS
};

/// Protocols in `EXPOSE` are lower case.
pub const EXPOSE_PROTO_CASING: LintRule = LintRule {
    name: "ExposeProtoCasing",
    about: "protocols in `EXPOSE` are lower case",
    why: "They are kept in lower case whatever the file says.",
    bad: "FROM scratch\nEXPOSE 80/TCP\n",
    good: "FROM scratch\nEXPOSE 80/tcp\n",
    scope: RuleScope::Stages,
    ..RULE_DEFAULTS
};

/// `EXPOSE` names ports of the container only.
pub const EXPOSE_INVALID_FORMAT: LintRule = LintRule {
    name: "ExposeInvalidFormat",
    about: "`EXPOSE` names ports of the container only",
    why: "Addresses and ports of the host have no effect there: whoever runs the image chooses them.",
    bad: "FROM scratch\nEXPOSE 127.0.0.1:80:8080\n",
    good: "FROM scratch\nEXPOSE 8080\n",
    scope: RuleScope::Stages,
    ..RULE_DEFAULTS
};
