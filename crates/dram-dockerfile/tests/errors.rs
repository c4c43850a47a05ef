//! Errors and warnings about invalid files.

mod support;

use dram_dockerfile::{Severity, parse};
use support::{errors, messages, settings, warnings};

/// Checks the error of each text, which is placed below `FROM x`, on line 2.
fn check(table: &[(&str, &str)]) {
    for (text, expected) in table {
        let found = errors(&format!("FROM x\n{text}\n"));
        assert_eq!(found, [format!("2: {expected}")], "{text}");
    }
}

#[test]
fn unsupported_flags_are_refused_by_name() {
    check(&[("RUN --device=x make", "`RUN --device` is not supported")]);
}

#[test]
fn invalid_heredocs_are_errors() {
    check(&[
        ("RUN <<EOF\nabc", "the heredoc `EOF` is never closed"),
        ("COPY <<A <<B /x/\nA\nabc", "the heredoc `B` is never closed"),
        ("COPY a <<EOF\nabc\nEOF", "a heredoc cannot be the destination of `COPY`"),
        ("COPY [\"<<EOF\", \"/x\"]", "`<<EOF` is not a heredoc in the JSON form"),
        ("COPY <<EOF /x\n${A:?needed}\nEOF", "`A` is required: needed"),
        ("ONBUILD RUN <<EOF\nBAD", "the heredoc `EOF` is never closed"),
    ]);
}

#[test]
fn invalid_mounts_are_errors() {
    check(&[
        ("RUN --mount=type=cahce,target=/a x", "there are no mounts of type `cahce`"),
        ("RUN --mount=type=cache x", "nothing can be mounted on `/`"),
        ("RUN --mount=type=cache,target=/ x", "nothing can be mounted on `/`"),
        ("RUN --mount=target x", "`target` lacks its value"),
        ("RUN --mount=type=cache,targt=/a x", "a mount has no `targt`"),
        ("RUN --mount=type=cache,frob x", "a mount has no `frob`"),
        ("RUN --mount=type=bind,target=/a,mode=0700 x", "`mode` means nothing to a mount of type `bind`"),
        ("RUN --mount=type=tmpfs,target=/a,uid=1 x", "`uid` means nothing to a mount of type `tmpfs`"),
        ("RUN --mount=type=cache,target=/a,size=1m x", "`size` means nothing to a mount of type `cache`"),
        ("RUN --mount=type=cache,target=/a,required x", "`required` means nothing to a mount of type `cache`"),
        ("RUN --mount=type=bind,target=/a,sharing=shared x", "`sharing` means nothing to a mount of type `bind`"),
        ("RUN --mount=type=cache,target=/a,sharing=locket x", "`sharing=locket` is not a way to share"),
        ("RUN --mount=type=cache,target=/a,mode=9 x", "`mode=9` is not a mode; write it in octal, as `mode=0755`"),
        ("RUN --mount=type=cache,target=/a,uid=x x", "`uid=x` is not an id"),
        ("RUN --mount=type=cache,target=/a,ro=yes x", "`ro=yes` is not on or off; write `true` or `false`"),
        ("RUN --mount=type=tmpfs,target=/a,size=much x", "`size=much` is not a size; write it as in `size=64m`"),
        ("RUN --mount=type=secret x", "a secret lacks its name"),
        ("RUN --mount=type=secret,id=a,src=b x", "a secret has both `id` and `source`, which mean the same"),
        ("RUN --mount=type=secret,id=a,from=x x", "`from` means nothing to a mount of type `secret`"),
        ("RUN --mount=type=secret,id=a,env=B=C x", "`B=C` cannot be the name of a variable"),
        ("RUN --mount=from=$A,target=/a x", "`from` takes no variables"),
        ("RUN --mount=from=0,target=/a x", "stage number `0` is this stage itself"),
        ("RUN --mount=type=bind,\\\"target=/a x", "a quote in `--mount` is out of place"),
        ("RUN --mount x", "`--mount` lacks its value"),
        ("RUN --network=bridge x", "`--network` cannot be `bridge`"),
        ("RUN --network=none --network=none x", "`--network` is given twice"),
        ("RUN --security=no x", "`--security` cannot be `no`"),
    ]);
}

#[test]
fn invalid_triggers_are_errors() {
    check(&[
        ("ONBUILD", "`ONBUILD` takes an instruction"),
        ("ONBUILD ONBUILD RUN x", "`ONBUILD` cannot trigger `ONBUILD`"),
        ("ONBUILD FROM x", "`ONBUILD` cannot trigger `FROM`"),
        ("ONBUILD maintainer x", "`ONBUILD` cannot trigger `MAINTAINER`"),
        ("ONBUILD FOO x", "unknown instruction `FOO`"),
    ]);
    assert_eq!(
        errors("FROM x AS a\nONBUILD COPY --from=b c d\nFROM a AS z\nFROM y AS b\nFROM z"),
        ["3: the stage `b` is defined later"]
    );
}

#[test]
fn invalid_instructions_are_errors() {
    check(&[
        ("FOO bar", "unknown instruction `FOO`"),
        ("ARG ${UNSET}=a", "a name of `ARG` expands to nothing"),
        ("COPY a", "`COPY` takes at least one source and a destination"),
        ("COPY --form=a b c", "`COPY` has no flag `--form`"),
        ("COPY --chown a b", "`--chown` lacks its value"),
        ("COPY --chown=a --chown=b c d", "`--chown` is given twice"),
        ("COPY https://example.com/a /", "`COPY` cannot copy from a URL"),
        ("COPY a[ b", "the wildcard `a[` is malformed"),
        ("COPY --chmod=999 a b", "`999` is not a mode"),
        ("COPY --chmod=17777 a b", "`17777` is not a mode"),
        ("COPY --link=maybe a b", "`--link` is on or off, and `maybe` is neither"),
        ("COPY --link --link a b", "`--link` is given twice"),
        ("ADD --checksum=sha256:0 https://example.com/a b", "`sha256:0` is not a checksum"),
        ("ADD --checksum=sha256:0 a b", "`--checksum` is for a URL or a Git repository"),
        ("ADD --checksum=x https://example.com/a c b", "`--checksum` is for one source"),
        ("COPY git@example.com:a/b.git /", "`COPY` cannot copy from a Git repository"),
        ("COPY --chmod=x a b", "`x` is not a mode"),
        ("COPY --from=$X a b", "`--from` takes no variables"),
        ("COPY --from= a b", "`--from` is empty"),
        ("COPY --from=99 a b", "stage number `99` does not exist"),
        ("COPY --from=-1 a b", "stage number `-1` does not exist"),
        ("COPY --from=0 a b", "stage number `0` is this stage itself"),
        ("COPY --from=scratch a b", "`scratch` is empty, so there is nothing to copy from it"),
        ("COPY --from=NO!NAME a b", "`NO!NAME` is neither a stage nor the name of an image"),
        ("COPY [\"a\", 1]", "a JSON array of arguments holds strings only"),
        ("RUN", "`RUN` takes a command"),
        ("RUN []", "`RUN` takes a command"),
        ("CMD", "`CMD` takes a command"),
        ("CMD [1]", "a JSON array of arguments holds strings only"),
        ("SHELL bash -c", "`SHELL` takes a JSON array with at least one string"),
        ("SHELL []", "`SHELL` takes a JSON array with at least one string"),
        ("ARG", "`ARG` takes at least one name"),
        ("ARG =x", "a name of `ARG` is empty"),
        ("ENV A", "`ENV` takes a name and a value"),
        ("ENV A=1 B", "`B` is not a pair"),
        ("ENV =x", "a name of `ENV` is empty"),
        ("ENV ${X}=1", "a name of `ENV` expands to nothing"),
        ("ENV A=${B", "`${` is not closed by `}`"),
        ("ENV A=${B:?needed}", "`B` is required: needed"),
        ("LABEL", "`LABEL` takes at least one pair"),
        ("EXPOSE http", "`http` is not a port: it is not a number"),
        ("EXPOSE 80/icmp", "`80/icmp` is not a port: the protocol is neither `tcp` nor `udp` nor `sctp`"),
        ("EXPOSE", "`EXPOSE` takes at least one argument"),
        ("STOPSIGNAL SIGFOO", "`SIGFOO` is not a signal"),
        ("USER", "`USER` takes an argument"),
        ("USER 4294967296", "`4294967296` is too large for an id"),
        ("USER a:4294967295", "`4294967295` is too large for an id"),
        ("VOLUME []", "`VOLUME` takes at least one path, and none may be empty"),
        ("VOLUME [\"\"]", "`VOLUME` takes at least one path, and none may be empty"),
        ("WORKDIR", "`WORKDIR` takes an argument"),
        ("HEALTHCHECK", "`HEALTHCHECK` takes `CMD` and a command, or `NONE`"),
        ("HEALTHCHECK CMD", "`HEALTHCHECK CMD` takes a command"),
        ("HEALTHCHECK NONE x", "`HEALTHCHECK NONE` takes neither arguments nor flags"),
        ("HEALTHCHECK --interval=1 CMD x", "`1` is not a duration"),
        ("HEALTHCHECK --timeout=1us CMD x", "`1us` is shorter than a millisecond"),
        ("HEALTHCHECK --retries=-1 CMD x", "`-1` is not a number of retries"),
        ("FROM", "`FROM` takes an image, or an image, `AS` and a name"),
        ("FROM a b", "`FROM` takes an image, or an image, `AS` and a name"),
        ("FROM a AS 1b", "`1b` cannot be the name of a stage"),
        ("FROM $NONE", "the base `$NONE` expands to nothing"),
        ("FROM Not:An:Image", "`Not:An:Image` is not the name of an image"),
        ("FROM --platform=a/b/c/d y", "`a/b/c/d` is not a platform"),
        ("FROM --platform=$NONE y", "the platform `$NONE` expands to nothing"),
    ]);
}

#[test]
fn what_a_command_cannot_do_is_warned_of() {
    let warned = |text: &str| {
        let (plan, diagnostics) = support::run(text, &support::settings(), &support::found());
        assert!(plan.is_some(), "{diagnostics:?}");
        diagnostics.into_iter().map(|one| one.message).collect::<Vec<_>>().join("\n")
    };
    for (text, words) in [
        ("FROM base\r\nRUN <<END\r\necho > /a\r\nEND\r\n", "end in CR LF"),
        ("FROM base\nRUN <<END\necho > /a\nEND\n", ""),
        ("FROM base\r\nCOPY <<END /a\r\ntext\r\nEND\r\n", ""),
        ("FROM base\nRUN echo 10.0.0.1 db >> /etc/hosts\n", "writes to `/etc/hosts` is not in the image"),
        ("FROM base\nRUN echo 10.0.0.1 db | tee -a \"/etc/hosts\"\n", "writes to `/etc/hosts`"),
        ("FROM base\nRUN <<END\necho nameserver 10.0.0.1 >/etc/resolv.conf\nEND\n", "writes to `/etc/resolv.conf`"),
        ("FROM base\nRUN cat /etc/hosts > /hosts; echo > /etc/hosts.allow; cat > /x/etc/hosts\n", ""),
    ] {
        let found = warned(text);
        assert!(if words.is_empty() { found.is_empty() } else { found.contains(words) }, "{text}: {found}");
    }
}

#[test]
fn invalid_files_are_errors() {
    let table: &[(&str, &[&str])] = &[
        ("", &["1: the Dockerfile has no instructions"]),
        ("# only\n# comments\n", &["1: the Dockerfile has no instructions"]),
        ("ARG A=1\n", &["1: the Dockerfile has no `FROM`"]),
        ("RUN x\nFROM y\n", &["1: `RUN` stands before the first `FROM`"]),
        ("FROM x\nRUN a\0\n", &["2: the Dockerfile has a NUL byte"]),
        ("# escape=x\nFROM x\n", &["1: `x` cannot be the escape character"]),
        ("# escape=`\n# escape=`\nFROM x\n", &["2: `# escape=` is given twice"]),
        ("FROM x\nCOPY --from=b a .\nFROM y AS b\n", &["2: the stage `b` is defined later"]),
        ("FROM x\nCOPY --from=1 a .\nFROM y AS b\n", &["2: stage number `1` is defined later"]),
        ("FROM b\nFROM y AS b\n", &["1: the stage `b` is defined later"]),
        ("FROM x AS a\nCOPY --from=A a .\n", &["2: the stage `A` cannot copy from itself"]),
        ("FROM x AS build\nFROM BUILD\n", &["2: `BUILD` is not the name of an image"]),
        ("ARG A=${B\nFROM x\n", &["1: `${` is not closed by `}`"]),
    ];
    for (text, expected) in table {
        assert_eq!(errors(text), *expected, "{text:?}");
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let text = "FROM x AS a\nRNU a\nCOPY --from=b x .\nENV A\nFROM c AS b\nADD x\n";
    assert_eq!(
        errors(text),
        [
            "2: unknown instruction `RNU`",
            "3: the stage `b` is defined later",
            "4: `ENV` takes a name and a value",
            "6: `ADD` takes at least one source and a destination",
        ]
    );
}

#[test]
fn plan_errors_are_reported_together_with_parse_errors() {
    let text = "FROM x\nRNU a\nRUN --mount=type=cahce,target=/c b\nEXPOSE 80/tpc\nEXPOSE $A/tpc\nSTOPSIGNAL SIGTREM\n";
    assert_eq!(
        errors(text),
        [
            "2: unknown instruction `RNU`",
            "3: there are no mounts of type `cahce`",
            "4: `80/tpc` is not a port: the protocol is neither `tcp` nor `udp` nor `sctp`",
            "6: `SIGTREM` is not a signal",
        ],
        "but for line 5, which the instruction on line 2 might have set right"
    );
    assert_eq!(
        errors("FROM x\nCOPY --from=1 a .\nEXPOSE a\n"),
        ["2: stage number `1` does not exist", "3: `a` is not a port: it is not a number"]
    );
}

#[test]
fn unneeded_stages_and_stages_named_like_their_base_cause_no_errors() {
    let quiet = [
        "FROM x AS a\nRUN --device=x make\nFROM y\n",
        "FROM x AS a\nEXPOSE 80/tpc\nSTOPSIGNAL SIGFOO\nFROM y\n",
        "FROM x AS a\nRUN --mount=type=wrong make\nFROM y\n",
        "FROM x AS a\nADD --checksum=wrong https://example.com/a /\nFROM y\n",
        "FROM x AS a\nCOPY --chmod=wrong a b\nFROM y\n",
        "FROM alpine AS a\nFROM a AS alpine\n",
        "FROM alpine AS a\nFROM scratch AS alpine\nCOPY --from=a b c\n",
        "FROM alpine AS a\nFROM y AS b\nCOPY --from=0 b c\nFROM b AS alpine\n",
        "FROM alpine AS a\nFROM alpine AS alpine\n",
    ];
    for text in quiet {
        assert_eq!(errors(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn unknown_target_is_an_error_with_a_suggestion() {
    let mut settings = settings();
    settings.target = Some("biuld".into());
    let text = "FROM x AS build\nFROM y\n";
    assert_eq!(messages(text, &settings, Severity::Error), ["1: no stage is named `biuld`"]);
    let (_, diagnostics) = support::run(text, &settings, &support::found());
    assert_eq!(diagnostics[0].helps, ["did you mean `build`?"]);
}

#[test]
fn mistyped_names_get_a_suggestion() {
    let table = [
        ("FORM x\n", "did you mean `FROM`?"),
        ("FROM x\nCOPY --form=y a b\n", "did you mean `--from`?"),
        ("FROM x AS build\nFROM BUILD\n", "did you mean `build`?"),
        ("FROM x\nSTOPSIGNAL SIGTREM\n", "did you mean `SIGTERM`?"),
        ("FROM --platform=$BULIDPLATFORM x\n", "did you mean `BUILDPLATFORM`?"),
    ];
    for (text, help) in table {
        let (_, diagnostics) = support::run(text, &settings(), &support::found());
        assert!(diagnostics.iter().any(|one| one.helps.iter().any(|found| found == help)), "{text} {diagnostics:#?}");
    }
}

#[test]
fn spans_point_to_the_invalid_words() {
    let text = "FROM x\nRUN a && \\\n    b\nCOPY --from=nope:1:2 \\\n  # why\n  one \\\n  two[ /x/\n";
    let (_, diagnostics) = support::run(text, &settings(), &support::found());
    let places: Vec<&str> = diagnostics.iter().map(|one| &text[one.span.clone()]).collect();
    assert_eq!(places, ["--from=nope:1:2"]);
    let parsed = parse(text.as_bytes());
    assert_eq!(&text[parsed.dockerfile.instructions[1].span.clone()], "RUN a && \\\n    b");
}

#[test]
fn invalid_utf8_is_reported_once() {
    let parsed = parse(b"FROM x\nRUN \xff\xfe\n");
    assert_eq!(parsed.diagnostics.len(), 1);
    assert_eq!((parsed.diagnostics[0].span.clone(), parsed.dockerfile.instructions.len()), (11..12, 2));
}

#[test]
fn warning_rules_fire_on_their_lines() {
    let table: &[(&str, &[&str])] = &[
        ("FROM x AS Build\n", &["1: StageNameCasing: "]),
        ("FROM x as y\n", &["1: FromAsCasing: "]),
        ("FROM x\nRUN a \\\n\n  b\n", &["3: NoEmptyContinuation: "]),
        ("FROM x\nrun a\nRUN b\n", &["2: ConsistentInstructionCasing: "]),
        ("FROM x AS a\nFROM y AS A\n", &["2: DuplicateStageName: ", "2: StageNameCasing: "]),
        ("FROM x AS scratch\n", &["1: ReservedStageName: "]),
        ("FROM x\nCMD a\n", &["2: JSONArgsRecommended: "]),
        ("FROM x\nCMD ['a']\n", &["2: JSONArgsRecommended: "]),
        ("FROM x\nRUN ['a', 'b']\n", &["2: AlmostJSON: "]),
        ("FROM x\nMAINTAINER a\n", &["2: MaintainerDeprecated: "]),
        ("FROM x$A\n", &["1: UndefinedArgInFrom: "]),
        ("FROM x\nCOPY $A/ .\n", &["2: UndefinedVar: "]),
        ("FROM x\nARG A\nCOPY $A/ .\n", &[]),
        ("FROM x\nWORKDIR a\nWORKDIR b\n", &["2: WorkdirRelativePath: "]),
        ("FROM x AS a\nCMD [\"a\"]\nCMD [\"b\"]\nFROM a\nCMD [\"c\"]\n", &["2: MultipleInstructionsDisallowed: "]),
        ("FROM x\nENV a b\nLABEL c d\n", &["2: LegacyKeyValueFormat: ", "3: LegacyKeyValueFormat: "]),
        ("FROM --platform=$TARGETPLATFORM x\n", &["1: RedundantTargetPlatform: "]),
        ("FROM --platform=linux/amd64 x\n", &["1: FromPlatformFlagConstDisallowed: "]),
        ("FROM --platform=linux/amd64 x AS amd64-build\n", &[]),
        ("FROM x\nARG API_KEY\nENV PUBLIC_KEY=1\n", &["2: SecretsUsedInArgOrEnv: "]),
        ("FROM x\nEXPOSE 80/TCP 8080:81\n", &["2: ExposeInvalidFormat: ", "2: ExposeProtoCasing: "]),
        ("FROM x\nUSER ${NOBODY:-}\n", &["2: EmptyUser: ", "2: UndefinedVar: "]),
        ("FROM x AS build\nFROM y\nCOPY --from=biuld a .\n", &["3: MistypedStageName: "]),
    ];
    for (text, expected) in table {
        let found = warnings(text);
        let same =
            found.len() == expected.len() && found.iter().zip(*expected).all(|(one, start)| one.starts_with(start));
        assert!(same, "{text}: {found:#?}");
    }
    let mut with_argument = settings();
    with_argument.build_args.insert("TAG".into(), "1".into());
    let found = messages("ARG TAG\nFROM x:$TAG\n", &with_argument, Severity::Warning);
    assert!(found[0].starts_with("2: InvalidDefaultArgInFrom: "), "{found:?}");
}
