//! The Dockerfile and the ignore lists of a build context that is not trusted: a symbolic link cannot lead outside.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::rootless::stores_of_all_users;
use crate::support::{Context, Store, temp, valid_image};

const SECRET: &str = "TOPSECRET LINE";

/// Returns a directory with a file that no message may show.
fn secret_file() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = temp();
    let file = dir.path().join("secret");
    fs::write(&file, format!("{SECRET}\n!\n[\n")).unwrap();
    (dir, file)
}

#[test]
fn texts_of_a_context_are_not_read_through_links_that_leave_it() {
    for store in stores_of_all_users() {
        texts_are_not_read_through_links(&store);
    }
}

fn texts_are_not_read_through_links(store: &Store) {
    let (_dir, secret) = secret_file();
    let up = format!("../{}", secret.strip_prefix("/tmp").unwrap_or(Path::new("x")).display());
    for target in [secret.to_str().unwrap(), "/proc/self/environ", "/proc/self/root/etc/passwd", "/etc/shadow", &up] {
        for text in ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore", "dockerfile", "sub/Dockerfile"] {
            let context = Context::new("FROM parity-base\nCOPY f /f\n").file("f", "x").file("sub/f", "x");
            let link = context.join(text);
            if text == "dockerfile" {
                fs::remove_file(context.join("Dockerfile")).unwrap();
            }
            let _ = fs::remove_file(&link);
            symlink(target, &link).unwrap();
            let mut build = store.dram(["build", "--progress", "plain"]).env("TOPSECRET", SECRET).arg(context.path());
            if text.starts_with("sub") {
                build = build.arg("-f").arg(&link);
            }
            let done = build.fails(2);
            assert!(!done.stderr.contains(SECRET) && !done.stderr.contains("root:x:"), "{text} -> {target}: {done}");
            done.says(&format!("is a symbolic link to `{target}`")).says("links are followed only within");
        }
    }
}

#[test]
fn texts_of_a_context_may_be_links_within_it() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nCOPY . /ctx/\n").file("keep", "x").file("drop", "x");
    fs::create_dir(context.join("docker")).unwrap();
    fs::rename(context.join("Dockerfile"), context.join("docker/build")).unwrap();
    context.write("docker/ignore", "drop\n");
    symlink("docker/build", context.join("Dockerfile")).unwrap();
    symlink("/docker/ignore", context.join(".dockerignore")).unwrap();
    store.build(&context).ok();
    valid_image(&store, "demo:latest");
    assert_eq!(store.sh("ls /ctx").stdout, "Dockerfile\ndocker\nkeep\n");
    // A Dockerfile in a subdirectory may lead to another directory of the context, and so may its ignore list.
    fs::create_dir(context.join("ci")).unwrap();
    symlink("../docker/build", context.join("ci/Dockerfile")).unwrap();
    symlink("../docker/own", context.join("ci/Dockerfile.dockerignore")).unwrap();
    context.write("docker/own", "keep\n");
    store.build(&context).arg("-f").arg(context.join("ci/Dockerfile")).ok();
    assert_eq!(store.sh("ls /ctx").stdout, "Dockerfile\nci\ndocker\ndrop\n");
}

#[test]
fn a_context_that_the_user_names_by_a_link_is_followed() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nCOPY f /f\n").file("f", "x");
    let dir = temp();
    symlink(context.path(), dir.path().join("link")).unwrap();
    store.dram(["build"]).arg(dir.path().join("link")).ok();
    store.dram(["build", "-f"]).arg(dir.path().join("link/Dockerfile")).arg(context.path()).ok();
    store.dram(["build", "-f"]).arg(context.join("Dockerfile")).arg(dir.path().join("link")).ok();
}

#[test]
fn a_dockerfile_outside_of_the_context_is_read_within_its_own_directory() {
    let store = Store::with_base();
    let (_dir, secret) = secret_file();
    let context = Context::new("FROM nothing").file("f", "x");
    let other = temp();
    fs::create_dir(other.path().join("sub")).unwrap();
    fs::write(other.path().join("sub/real"), "FROM parity-base\nCOPY f /f\n").unwrap();
    symlink("sub/real", other.path().join("inside")).unwrap();
    store.build(&context).arg("-f").arg(other.path().join("inside")).ok();
    symlink(&secret, other.path().join("outside")).unwrap();
    let done = store.build(&context).arg("-f").arg(other.path().join("outside")).fails(2);
    let done = done.says("there is no Dockerfile at").says("symbolic link");
    assert!(!done.stderr.contains(SECRET), "{done}");
    symlink(&secret, other.path().join("inside.dockerignore")).unwrap();
    let done = store.build(&context).arg("-f").arg(other.path().join("inside")).fails(2).says("symbolic link");
    assert!(!done.stderr.contains(SECRET), "{done}");
}

#[test]
fn the_ignore_list_of_a_named_context_does_not_leave_it() {
    let store = Store::with_base();
    let (_dir, secret) = secret_file();
    let context = Context::new("FROM parity-base\nCOPY --from=more . /more/\n");
    let more = temp();
    fs::write(more.path().join("a"), "a").unwrap();
    fs::write(more.path().join("b"), "b").unwrap();
    fs::write(more.path().join("list"), "b\nlist\n.dockerignore\n").unwrap();
    symlink("list", more.path().join(".dockerignore")).unwrap();
    let build = || store.build(&context).arg("--build-context").arg(format!("more={}", more.path().display()));
    build().ok();
    assert_eq!(store.sh("ls -A /more").stdout, "a\n");
    fs::remove_file(more.path().join(".dockerignore")).unwrap();
    symlink(&secret, more.path().join(".dockerignore")).unwrap();
    let done = build().fails(2).says("symbolic link");
    assert!(!done.stderr.contains(SECRET), "{done}");
}
