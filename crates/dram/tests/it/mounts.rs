//! `RUN --mount`: files and sockets that commands see, and that nothing of them is kept in the image.

use std::path::Path;

use crate::support::{BASE, Context, Store, temp, tool, valid_image};

fn context(run: &str) -> Context {
    Context::new(&format!("FROM {BASE}\n{run}\n"))
}

#[test]
fn a_bind_mount_shows_the_context_read_only() {
    let store = Store::with_base();
    let context = context(
        "RUN --mount=type=bind,target=/src set -e; \
             test ! -e /src/hidden; test \"$(stat -c %u:%g:%a /src/dir/file)\" = 0:0:644; cat /src/dir/file > /seen; \
             ! touch /src/new\n\
         RUN --mount=type=bind,source=dir/file,target=/one cp /one /two\n\
         RUN --mount=type=bind,source=dir,target=/rw,rw touch /rw/new && rm /rw/file && ls /rw > /listed\n\
         RUN test ! -e /src && test ! -e /one && test ! -e /rw",
    )
    .file("dir/file", "text")
    .file("hidden", "")
    .file(".dockerignore", "hidden\n");
    store.build(&context).ok();
    let shown = store.sh("cat /seen /two /listed; ls -d /src /one /rw 2>&1 | grep -c 'No such'").stdout;
    assert_eq!(shown, "texttextnew\n3\n");
    assert_eq!(std::fs::read_to_string(context.join("dir/file")).unwrap(), "text");
    valid_image(&store, "demo:latest");
}

#[test]
fn files_of_bind_mounts_are_part_of_the_cache_key() {
    let store = Store::with_base();
    let context = Context::new(&format!(
        "FROM {BASE} AS made\nCOPY dir /dir\nFROM {BASE}\n\
         RUN --mount=type=bind,source=dir,target=/a --mount=from=made,source=/dir,target=/b cat /a/file /b/file > /out\n"
    ))
    .file("dir/file", "1")
    .file("other", "1");
    assert_eq!(store.build(&context).ok().steps().0, 2);
    context.write("other", "2");
    assert_eq!(store.build(&context).ok().steps().0, 0);
    context.write("dir/file", "2");
    assert_eq!(store.build(&context).ok().steps().0, 2);
    assert_eq!(store.sh("cat /out").stdout, "22");
}

#[test]
fn a_bind_mount_from_a_stage_or_image_keeps_owners() {
    let store = Store::with_base();
    let context = Context::new(&format!(
        "FROM {BASE} AS made\nRUN mkdir /d && echo x > /d/f && chown 7:8 /d/f && ln -s f /d/link\n\
         FROM {BASE}\n\
         RUN --mount=from=made,source=/d,target=/m stat -c %u:%g /m/f > /out && cat /m/link >> /out && ! touch /m/x\n\
         RUN --mount=from=made,source=/d,target=/m,rw touch /m/x && ls /m >> /out\n\
         RUN --mount=from={BASE},target=/image test -e /image/bin/sh\n"
    ));
    store.build(&context).ok();
    assert_eq!(store.sh("cat /out").stdout, "7:8\nx\nf\nlink\nx\n");
}

#[test]
fn a_missing_mount_source_suggests_the_nearest() {
    let store = Store::with_base();
    let missing = context("RUN --mount=source=dier,target=/m true").file("dir/file", "");
    store.build(&missing).fails(1).says("no such file in the build context: `/dier`").says("did you mean `/dir`?");
    let hidden = context("RUN --mount=source=dir,target=/m true").file("dir/file", "").file(".dockerignore", "dir\n");
    store.build(&hidden).fails(1).says(".dockerignore leaves it out");
}

#[test]
fn a_symlink_as_mount_target_is_resolved_inside_the_image() {
    let store = Store::with_base();
    let context = context(
        "RUN ln -s /../../../../etc /link && mkdir /real && ln -s /real /dir\n\
         RUN --mount=type=tmpfs,target=/link/under touch /link/under/x && ls /etc/under > /out\n\
         RUN --mount=type=cache,target=/dir touch /real/x\n\
         RUN test ! -e /etc/under && test ! -e /real/x",
    );
    store.build(&context).ok();
    assert_eq!(store.sh("cat /out").stdout, "x\n");
    assert!(!Path::new("/etc/under").exists());
}

#[test]
fn tmpfs_and_heredoc_scripts_exist_only_for_their_command() {
    let store = Store::with_base();
    let context = context(
        "RUN --mount=type=tmpfs,target=/mem,size=1m set -e; ! dd if=/dev/zero of=/mem/big bs=1M count=2 2>/dev/null; \
             df -k /mem | tail -1 | awk '{print $2}' > /size\n\
         RUN <<EOT\n#!/bin/sh\necho $0 > /name\nEOT\n\
         RUN test ! -e /mem && test ! -e /dev/pipes",
    );
    store.build(&context).ok();
    let out = store.sh("cat /size /name").stdout;
    assert!(out.starts_with("1024\n") && out.contains("/dev/pipes/EOT"), "{out}");
}

#[test]
fn a_mount_on_dev_shm_replaces_the_default() {
    let store = Store::with_base();
    let context = context(
        "RUN --mount=type=tmpfs,target=/dev/shm,size=128m grep -c ' /dev/shm ' /proc/mounts > /out; \\\n\
             df -k /dev/shm | tail -1 | awk '{print $2}' >> /out; stat -c %a /dev/shm >> /out; echo x > /dev/shm/x\n\
         RUN --mount=type=cache,target=/dev/shm,id=shm grep -c ' /dev/shm ' /proc/mounts >> /out; echo x > /dev/shm/x\n\
         RUN test ! -e /dev/shm/x; grep -c ' /dev/shm ' /proc/mounts >> /out",
    );
    store.build(&context).ok();
    assert_eq!(store.sh("cat /out").stdout, "1\n131072\n1777\n1\n1\n");
}

#[test]
fn network_host_and_security_insecure_need_allow() {
    let store = Store::with_base();
    let none = context("RUN --network=none test \"$(ls /sys/class/net)\" = lo");
    store.build(&none).ok();
    let host = context("RUN --network=host test \"$(ls /sys/class/net)\" != lo || true");
    store.build(&host).fails(1).says("--allow network.host");
    store.build(&host).args(["--allow", "network.host"]).ok();
    store.build(&host).args(["--network", "none"]).fails(1).says("--allow network.host");
    store.build(&host).args(["--network", "none", "--allow", "network.host"]).ok();
    let insecure = context("RUN --security=insecure grep CapEff /proc/self/status > /caps");
    store.build(&insecure).fails(1).says("--allow security.insecure");
    store.build(&insecure).args(["--allow", "security.insecure"]).ok();
    store.build(&context("RUN true")).args(["--allow", "everything"]).fails(2).says("nothing like `everything`");
    let named = context("RUN hostname > /name");
    store.build(&named).args(["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=sandy"]).ok();
    assert_eq!(store.sh("cat /name").stdout, "sandy\n");
}

#[test]
fn an_ssh_mount_forwards_the_agent() {
    let store = Store::with_base();
    let dir = temp();
    let (socket, key) = (dir.path().join("agent"), dir.path().join("key"));
    let agent = tool("ssh-agent").args(["-D", "-a"]).arg(&socket).start();
    crate::support::wait_until("the agent listens", std::time::Duration::from_secs(5), || socket.exists());
    tool("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "mine", "-f"]).arg(&key).ok();
    tool("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket).ok();
    let context = context(
        "RUN --mount=type=ssh,mode=0640,uid=7,gid=8 --mount=target=/tools set -e; \
             stat -c '%a %u:%g %F' $SSH_AUTH_SOCK > /out; echo $SSH_AUTH_SOCK >> /out; \
             for i in 1 2; do /tools/loader --library-path /tools /tools/ssh-add -l | grep -c mine >> /out; done\n\
         RUN test ! -e /run/buildkit && test -z \"$SSH_AUTH_SOCK\"",
    );
    // The base image has no ssh-add, so the program is copied with its libraries.
    for line in tool("ldd").arg("/usr/bin/ssh-add").ok().stdout.lines() {
        if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
            let name = path.rsplit('/').next().unwrap();
            let name = if name.starts_with("ld-") { "loader" } else { name };
            std::fs::copy(path, context.join(name)).unwrap();
        }
    }
    std::fs::copy("/usr/bin/ssh-add", context.join("ssh-add")).unwrap();
    store.build(&context).arg("--ssh").arg(format!("default={}", socket.display())).ok();
    assert_eq!(store.sh("cat /out").stdout, "640 7:8 socket\n/run/buildkit/ssh_agent.0\n1\n1\n");
    let required = self::context("RUN --mount=type=ssh,required true");
    store.build(&required).fails(1).says("build with `--ssh default`");
    let by_variable = store.build(&required).args(["--ssh", "default"]).env("SSH_AUTH_SOCK", &socket);
    by_variable.ok();
    store.build(&required).arg("--ssh").arg(format!("default={}", key.display())).fails(2).says("ssh-add");
    drop(agent);
}

/// Returns the encodings in which the value could be stored.
fn encodings_of(secret: &str) -> Vec<Vec<u8>> {
    let through = |program: &str, args: &[&str]| tool(program).args(args).stdin(secret).ok().stdout.trim().to_owned();
    let base64 = through("base64", &["-w0"]);
    let hex = through("od", &["-An", "-tx1", "-v"]).replace([' ', '\n'], "");
    let shifted = tool("base64").arg("-w0").stdin(format!("x{secret}")).ok().stdout;
    let upper = hex.to_uppercase();
    // The first and last letters of base64 depend on the neighbouring bytes.
    let inner = |text: &str| text.as_bytes()[4..text.len() - 6].to_vec();
    vec![secret.into(), inner(&base64), inner(&shifted), hex.into(), upper.into()]
}

/// Returns the number of files below `dir`, and the names of those that contain one of `forms`.
fn files_containing(dir: &Path, forms: &[Vec<u8>]) -> (usize, Vec<String>) {
    let mut found = Vec::new();
    let files = tool("find").arg(dir).args(["-type", "f"]).ok().stdout;
    for file in files.lines() {
        let bytes = std::fs::read(file).unwrap();
        let has = |form: &Vec<u8>| bytes.windows(form.len()).any(|window| window == form);
        if forms.iter().any(|form| has(form) || file.contains(&*String::from_utf8_lossy(form))) {
            found.push(file.to_owned());
        }
    }
    (files.lines().count(), found)
}

/// Returns 32 random letters.
fn random_secret() -> String {
    tool("sh").args(["-c", "head -c 24 /dev/urandom | base64 | tr '+/' 'ab'"]).ok().stdout.trim().to_owned()
}

#[test]
fn a_secret_is_visible_only_to_its_command_and_never_stored() {
    let store = Store::with_base();
    let (file, variable) = (random_secret(), random_secret());
    let dir = temp();
    let path = dir.path().join("secret");
    std::fs::write(&path, &file).unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let context = context(
        "RUN --mount=type=secret,id=file --mount=type=secret,id=var,env=TOKEN,required \\\n\
             --mount=type=secret,id=file,target=/app/key,mode=0440,uid=7,gid=8 \\\n\
             set -e; stat -c '%a %u:%g' /run/secrets/file /app/key > /stat; wc -c < /run/secrets/file > /length; \
             cmp /run/secrets/file /app/key; echo ${#TOKEN} >> /length; ! echo x > /app/key; \
             cut -c 1-5 /app/key > /start; echo $TOKEN | cut -c 1-5 >> /start\n\
         RUN test ! -e /run/secrets && test ! -e /app/key && test -z \"$TOKEN\"\n\
         ENV TOKEN=other\nRUN --mount=type=secret,id=var,env=TOKEN test \"$TOKEN\" != other",
    );
    let build = || {
        let build = store.build(&context).arg("--secret").arg(format!("id=file,src={}", path.display()));
        let build = build.arg("--metadata-file").arg(out.join("metadata")).arg("--iidfile").arg(out.join("id"));
        build.args(["--secret", "id=var,env=MY_TOKEN"]).env("MY_TOKEN", &variable)
    };
    let done = build().ok();
    assert_eq!(store.sh("cat /stat /length").stdout, "400 0:0\n440 7:8\n32\n32\n");
    assert_eq!(store.sh("cat /start").stdout, format!("{}\n{}\n", &file[..5], &variable[..5]));
    // The kept state of a failed step must not contain the secret either.
    let failing = self::context("RUN --mount=type=secret,id=file --mount=type=secret,id=var,env=V touch /x; exit 3");
    let failed = store.build(&failing).arg("--secret").arg(format!("id=file,src={}", path.display()));
    let failed = failed.args(["--secret", "id=var,env=MY_TOKEN"]).env("MY_TOKEN", &variable).fails(1);
    let forms: Vec<Vec<u8>> = [&file, &variable].into_iter().flat_map(|secret| encodings_of(secret)).collect();
    assert!(std::fs::metadata(out.join("metadata")).unwrap().len() > 100);
    store.dram(["save", "-o"]).arg(out.join("image.tar")).arg("demo").ok();
    let texts = [store.inspect("demo").to_string(), store.dram(["history", "--no-trunc", "demo"]).ok().stdout];
    let outputs = [done.stdout, done.stderr, failed.stdout, failed.stderr].into_iter().chain(texts);
    for (number, text) in outputs.enumerate() {
        std::fs::write(out.join(format!("output-{number}")), text).unwrap();
    }
    // Layers in archives are compressed, so they are searched decompressed.
    let script = "set -e; cd \"$1\"; mkdir u; tar -xf image.tar -C u; find u -type f | while read f; do \
                  gzip -dc < $f > $f.plain 2>/dev/null || rm $f.plain; done";
    tool("sh").args(["-c", script, "sh"]).arg(&out).ok();
    let (count, found) = files_containing(&out, &forms);
    assert!(count > 8 && found.is_empty(), "{count} files; {found:?}");
    let (count, found) = files_containing(&store.path(), &forms);
    assert!(count > 20 && found.is_empty(), "{count} files; {found:?}");
    // The search itself works: it finds a value that is stored.
    store.build(&self::context(&format!("ENV LEAK={file}"))).ok();
    assert!(!files_containing(&store.path(), &forms).1.is_empty());
    valid_image(&store, "demo:latest");
    // The value of a secret is not part of the cache key.
    std::fs::write(&path, random_secret()).unwrap();
    assert_eq!(build().ok().steps().0, 0);
}

#[test]
fn a_missing_secret_is_an_error_only_when_required() {
    let store = Store::with_base();
    let optional = context(
        "RUN --mount=type=secret,id=a --mount=type=secret,id=b,env=B test ! -e /run/secrets/a && test -z \"$B\"",
    );
    store.build(&optional).ok();
    let required = context("RUN --mount=type=secret,id=token,required true");
    let done = store.build(&required).fails(1);
    done.says("needs the secret `token`").says("--secret id=token,src=FILE").says("Dockerfile:2");
    let wrong = |secret: &str| store.build(&required).args(["--secret", secret]).fails(2);
    wrong("id=token,env=SURELY_UNSET").says("SURELY_UNSET");
    wrong("id=token,src=/nowhere").says("/nowhere");
    wrong("src=/etc/hostname").says("has no id");
    wrong("id=token,type=socket").says("it is `file` or `env`");
    wrong("id=token,src=/dev/zero").says("longer than 500 KiB");
    store.build(&required).args(["--secret", "id=token"]).env("token", "x").ok();
}
