//! Plans of heredocs, mounts, and the flags of `COPY` and `ADD`.

mod support;

use support::{plan, plan_with, settings};

/// Plans `text` below `FROM x`, and returns the lines of the summary that describe its step.
fn lines(text: &str) -> Vec<String> {
    let plan = plan(&format!("FROM x\nWORKDIR /w\n{text}\n"));
    let line = plan.lines().position(|line| line.starts_with("  3 ")).unwrap_or_else(|| panic!("{plan}"));
    plan.lines().skip(line + 1).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn mount_flags_become_planned_mounts() {
    let table = [
        ("target=a", "bind / of context at /w/a"),
        ("type=bind", "bind / of context at /w"),
        ("type=bind,source=lib/../x,target=/a,rw", "bind /x of context at /a writable"),
        ("type=bind,src=x,dst=/a,readonly=false", "bind /x of context at /a writable"),
        ("type=bind,src=x,dst=/a,rw=false", "bind /x of context at /a"),
        ("type=bind,target=/a,Z,relabel=shared", "bind / of context at /a"),
        ("type=bind,from=scratch,target=/a", "bind / of nothing at /a"),
        ("type=bind,from=busybox,target=/a", "bind / of named busybox at /a"),
        ("TYPE=Cache,target=/c/", "cache /c at /c Shared 755 0:0"),
        ("type=cache,target=c", "cache c at /w/c Shared 755 0:0"),
        ("type=cache,target=/c,id=x,sharing=locked,ro,mode=0700,uid=1,gid=2", "cache x at /c Locked read-only 700 1:2"),
        ("type=cache,target=/c,from=busybox,source=bin", "cache /c at /c Shared 755 0:0 from /bin of named busybox"),
        ("type=tmpfs,target=/t", "tmpfs /t None"),
        ("type=tmpfs,target=/t,size=1m", "tmpfs /t Some(1048576)"),
        ("type=secret,id=a", "secret a file Some(\"/run/secrets/a 400 0:0\") env None required false"),
        ("type=secret,id=a/b,required", "secret a/b file Some(\"/run/secrets/b 400 0:0\") env None required true"),
        ("type=secret,target=/k/id", "secret id file Some(\"/k/id 400 0:0\") env None required false"),
        ("type=secret,id=a,env=TOKEN", "secret a file None env Some(\"TOKEN\") required false"),
        (
            "type=secret,id=a,env=T,target=b,mode=0440,uid=7",
            "secret a file Some(\"/w/b 440 7:0\") env Some(\"T\") required false",
        ),
        ("type=ssh", "ssh default /run/buildkit/ssh_agent.0 600 0:0 required false"),
        ("type=ssh,id=k,target=/s,required=true", "ssh k /s 600 0:0 required true"),
    ];
    for (mount, expected) in table {
        assert_eq!(lines(&format!("RUN --mount={mount} y"))[1], expected, "{mount}");
    }
    let two = lines("RUN --mount=type=ssh --mount=type=cache,target=/c --mount=type=ssh y");
    assert_eq!(two[3], "ssh default /run/buildkit/ssh_agent.1 600 0:0 required false");
}

#[test]
fn variables_in_mount_flags_are_expanded() {
    let text = "FROM x AS tool\nFROM x\nARG DIR=/d\nENV WHO=7\n\
                RUN --mount=type=cache,target=$DIR/c,uid=${WHO} --mount=from=tool,source=$DIR,target=/t y\n";
    let plan = plan(text);
    assert!(plan.contains("cache /d/c at /d/c Shared 755 7:0\n"), "{plan}");
    assert!(plan.contains("bind /d of stage 0 at /t\n"), "{plan}");
    let mut settings = settings();
    settings.build_args.insert("BUILDKIT_CACHE_MOUNT_NS".into(), "ns".into());
    let plan = plan_with("FROM x\nRUN --mount=type=cache,target=/c y\n", &settings);
    assert!(plan.contains("cache ns//c at /c"), "{plan}");
}

#[test]
fn run_heredocs_become_shell_text_or_a_script() {
    let table = [
        ("RUN <<EOF\na\n  b\nEOF", r#"run ["/bin/sh", "-c", "a\n  b\n"] in /w"#),
        ("RUN <<-EOF\n\ta\n\tEOF", r#"run ["/bin/sh", "-c", "a\n"] in /w"#),
        ("RUN <<'EOF'\n$a\nEOF", r#"run ["/bin/sh", "-c", "$a\n"] in /w"#),
        ("RUN cat <<A <<-B > x\n1\nA\n\t2\n\tB", r#"run ["/bin/sh", "-c", "cat <<A <<-B > x\n1\nA\n\t2\nB"] in /w"#),
        ("RUN <<EOF cat\n1\nEOF", r#"run ["/bin/sh", "-c", "<<EOF cat\n1\nEOF"] in /w"#),
        ("RUN [\"echo\", \"<<EOF\"]", r#"run ["echo", "<<EOF"] in /w"#),
    ];
    for (text, expected) in table {
        assert_eq!(lines(text)[0], expected, "{text}");
    }
    let script = lines("RUN <<-prog\n\t#!/usr/bin/env python\n\tx\n\tprog");
    assert_eq!(script[0], r#"run ["/bin/sh", "-c", "/dev/pipes/prog"] in /w"#);
    assert_eq!(script[1], r##"script /dev/pipes/prog "#!/usr/bin/env python\nx\n""##);
}

#[test]
fn copy_heredocs_become_files() {
    let files = lines("ENV A=1\nCOPY <<one <<\"two\" <<-three a /d/\n$A '$A' \\$A\none\n$A\ntwo\n\t$A\n\tthree");
    assert!(files.contains(&"copy context: a one two three -> /d/".to_owned()), "{files:?}");
    assert!(files.contains(&r#"one is "1 '1' $A\n""#.to_owned()), "{files:?}");
    assert!(files.contains(&r#"two is "$A\n""#.to_owned()), "{files:?}");
    assert!(files.contains(&r#"three is "1\n""#.to_owned()), "{files:?}");
}

#[test]
fn copy_and_add_flags_reach_the_plan() {
    let table: &[(&str, &[&str])] = &[
        ("COPY --link a b", &["link"]),
        ("COPY --link=false a b", &[]),
        ("COPY --parents --exclude=*.md --exclude=x/** a b", &["parents", "exclude [\"*.md\", \"x/**\"]"]),
        ("ADD https://example.com/a.tgz /d/", &["https://example.com/a.tgz is a URL"]),
        (
            "ADD --keep-git-dir=true https://example.com/a.git /d",
            &["keep the git directory", "https://example.com/a.git is a repository"],
        ),
    ];
    for (text, expected) in table {
        assert_eq!(&lines(text)[1..], *expected, "{text}");
    }
    assert_eq!(lines("ADD --unpack=false a b")[0], "copy context: a -> /w/b");
    assert_eq!(lines("ADD a b")[0], "copy context: a -> /w/b unpack");
    let sum = "0".repeat(64);
    let url = lines(&format!("ADD --checksum=sha256:{sum} https://example.com/a /d"));
    assert_eq!(url[1], format!("checksum Some(\"sha256:{sum}\")"));
}

#[test]
fn run_network_and_security_reach_the_plan() {
    assert_eq!(lines("RUN --network=default y").len(), 1);
    assert_eq!(lines("RUN --network=none y")[1], "network Some(None) insecure false");
    assert_eq!(lines("RUN --security=insecure y")[1], "network None insecure true");
}
