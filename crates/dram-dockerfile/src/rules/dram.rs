//! The rules that BuildKit does not have.

use super::{LintRule, RuleActivation, RuleOrigin, RuleScope};

/// The defaults of these rules.
const RULE_DEFAULTS: LintRule = LintRule {
    name: "",
    about: "",
    why: "",
    bad: "",
    good: "",
    ignore: None,
    origin: RuleOrigin::Dram,
    activation: RuleActivation::CheckOnly,
    scope: RuleScope::Stages,
};

/// No `ARG` or `ENV` has a secret for a value.
pub const SECRET_IN_VALUE: LintRule = LintRule {
    name: "SecretInValue",
    about: "no value of an `ARG` or `ENV` looks like a secret",
    why: "Known are the tokens of well-known services by their first letters, private keys, JSON web tokens, and \
          passwords in URLs. What is written into a Dockerfile is known to all who read the file, and stays in the image. \
          Revoke the secret, then give it to the build with `--secret`.",
    bad: "FROM debian:13\nENV DATABASE_URL=postgres://app:s3cr3t-word@db/app\n",
    good: "FROM debian:13\nENV DATABASE_URL=postgres://app@db/app\n",
    activation: RuleActivation::Always,
    scope: RuleScope::File,
    ..RULE_DEFAULTS
};

/// A command that starts as JSON is JSON.
pub const ALMOST_JSON: LintRule = LintRule {
    name: "AlmostJSON",
    about: "a `RUN` that starts like a JSON array is one",
    why: "With single quotes, a missing comma or a word behind the bracket it is no JSON, and a shell gets the brackets \
          as text. For `CMD` and `ENTRYPOINT` this is told by `JSONArgsRecommended`.",
    bad: "FROM debian:13\nRUN ['make', 'install']\n",
    good: "FROM debian:13\nRUN [\"make\", \"install\"]\n",
    activation: RuleActivation::Always,
    ..RULE_DEFAULTS
};

/// A `--from` that is nearly a stage's name is that name.
pub const MISTYPED_STAGE_NAME: LintRule = LintRule {
    name: "MistypedStageName",
    about: "a `--from` that is nearly the name of a stage is that name",
    why: "A name that no stage has is taken for an image, which is looked for on the network.",
    bad: "FROM debian:13 AS build\nRUN make\nFROM scratch\nCOPY --from=build /app /app\nCOPY --from=biuld /lib /lib\n",
    good: "FROM debian:13 AS build\nRUN make\nFROM scratch\nCOPY --from=build /app /app\nCOPY --from=build /lib /lib\n",
    activation: RuleActivation::Always,
    scope: RuleScope::File,
    ..RULE_DEFAULTS
};

/// A base that has the name of a later stage is meant to be an image.
pub const STAGE_DEFINED_LATER: LintRule = LintRule {
    name: "StageDefinedLater",
    about: "`FROM` does not name a stage that is defined later",
    why: "Only earlier stages can be started from, so it is an image of that name that is looked for. If that is what \
          is meant, the stage wants another name. Where the later stage is not made of this one, it is an error.",
    bad: "FROM tools AS build\nRUN make\nFROM scratch AS tools\nCOPY --from=build /app /app\n",
    good: "FROM debian:13 AS tools\nRUN make\nFROM tools\nCOPY src /src\n",
    activation: RuleActivation::Always,
    scope: RuleScope::File,
    ..RULE_DEFAULTS
};

/// A comment at the top that is nearly a directive is one.
pub const MISTYPED_DIRECTIVE: LintRule = LintRule {
    name: "MistypedDirective",
    about: "a comment at the top that is nearly a directive is one",
    why: "`# syntax=`, `# escape=` and `# check=` are directives when they stand before everything else. With a letter \
          wrong they are comments, and end the directives.",
    bad: "# escpae=`\nFROM scratch\nCOPY src /src\n",
    good: "# escape=`\nFROM scratch\nCOPY src /src\n",
    activation: RuleActivation::Always,
    scope: RuleScope::File,
    ..RULE_DEFAULTS
};

/// A `USER` is not empty.
pub const EMPTY_USER: LintRule = LintRule {
    name: "EmptyUser",
    about: "a `USER` does not expand to nothing",
    why: "An empty user is root, which is hardly meant by an instruction whose purpose is not to be root.",
    bad: "FROM debian:13\nARG ACCOUNT\nUSER $ACCOUNT\n",
    good: "FROM debian:13\nARG ACCOUNT=app\nUSER $ACCOUNT\n",
    activation: RuleActivation::Always,
    ..RULE_DEFAULTS
};

/// Each stage is used by another one, or is the last.
pub const UNUSED_STAGE: LintRule = LintRule {
    name: "UnusedStage",
    about: "each stage is used by another one, is the last, or has a description",
    why: "A stage that nothing starts from or copies from is built only when `--target` names it. If that is what it is \
          for, say so in a comment right above that starts with its name, which `--call=targets` shows.",
    bad: "FROM debian:13 AS lint\nRUN make lint\nFROM debian:13 AS release\nRUN make\n",
    good: "# lint looks for mistakes in the sources\nFROM debian:13 AS lint\nRUN make lint\nFROM debian:13 AS \
           release\nRUN make\n",
    scope: RuleScope::File,
    ..RULE_DEFAULTS
};

/// A base image has a version.
pub const BASE_IMAGE_LATEST: LintRule = LintRule {
    name: "BaseImageLatest",
    about: "`FROM` names a version: a tag other than `latest`, or a digest",
    why: "Without one the base is whatever is newest on the day of the build, and the build breaks on a day of somebody \
          else's choice.",
    bad: "FROM debian\nRUN make\n",
    good: "FROM debian:13\nRUN make\n",
    scope: RuleScope::File,
    ..RULE_DEFAULTS
};

/// The lists of `apt-get update` are in no layer.
pub const APT_LISTS_LEFT: LintRule = LintRule {
    name: "AptListsLeft",
    about: "the lists that `apt-get update` fetches are not left in the image",
    why: "They are tens of megabytes that nobody reads again. Remove them in the same `RUN`, since a later one cannot \
          take them out of the layer, or keep them in a cache mount. Stages that are only copied from are not looked at.",
    bad: "FROM debian:13\nRUN --mount=type=cache,target=/var/cache/apt \\\n    apt-get update && apt-get install -y curl\n",
    good: "FROM debian:13\nRUN --mount=type=cache,target=/var/cache/apt,sharing=locked \\\n    \
           --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \\\n    \
           apt-get update && apt-get install -y curl\n",
    ..RULE_DEFAULTS
};

/// `apt-get install` does not ask.
pub const APT_GET_WITHOUT_YES: LintRule = LintRule {
    name: "AptGetWithoutYes",
    about: "`apt-get install` has `-y`",
    why: "Without it `apt-get` asks before it installs more than was named, nobody answers in a build, and it ends with \
          an error.",
    bad: "FROM debian:13\nRUN --mount=type=cache,target=/var/cache/apt --mount=type=cache,target=/var/lib/apt \\\n    \
          apt-get update && apt-get install curl\n",
    good: "FROM debian:13\nRUN --mount=type=cache,target=/var/cache/apt --mount=type=cache,target=/var/lib/apt \\\n    \
           apt-get update && apt-get install -y curl\n",
    ..RULE_DEFAULTS
};

/// Package managers keep their downloads in a cache mount.
pub const CACHE_MOUNT_HELPS: LintRule = LintRule {
    name: "CacheMountHelps",
    about: "what a package manager fetches is kept in a cache mount",
    why: "When the step has to run again, everything is fetched again without one. Known are mix (Hex), rebar3, npm, \
          yarn, pnpm, cargo, pip, uv, go and apt. The mount is named with the target that fits the stage's variables \
          and user, as `HOME`, `CARGO_HOME` or `GOPATH`. `pip install --no-cache-dir` is taken as a decision.",
    bad: "FROM node:24\nWORKDIR /app\nCOPY package.json package-lock.json ./\nRUN npm ci\n",
    good: "FROM node:24\nWORKDIR /app\nCOPY package.json package-lock.json ./\nRUN \
           --mount=type=cache,target=/root/.npm npm ci\n",
    ..RULE_DEFAULTS
};

/// `check` names rules that exist.
pub const UNKNOWN_RULE: LintRule = LintRule {
    name: "UnknownRule",
    about: "`# check=` names rules that there are, in the case they are written here",
    why: "A rule whose name is mistyped is not skipped.",
    bad: "# check=skip=CopyIgnoredFiles\nFROM scratch\nCOPY src /src\n",
    good: "# check=skip=CopyIgnoredFile\nFROM scratch\nCOPY src /src\n",
    scope: RuleScope::File,
    ..RULE_DEFAULTS
};
