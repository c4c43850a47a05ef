//! The same steps give the same image to root, with subordinate ids, and with a single id; or they are refused with a
//! reason.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::Path;
use std::thread;

use crate::rootless::{user_with_subids, user_without_subids, with_base};
use crate::support::{CommandOutput, Context, Store, User, list, temp, tool, valid_image};

/// Programs of this machine that the steps use, and their libraries.
const PROGRAMS: &[&str] = &[
    "bash",
    "cat",
    "chgrp",
    "chmod",
    "chown",
    "cp",
    "dd",
    "diff",
    "dpkg",
    "dpkg-deb",
    "dpkg-split",
    "find",
    "install",
    "ldconfig",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mknod",
    "mv",
    "rm",
    "rsync",
    "sed",
    "setcap",
    "setfattr",
    "stat",
    "tar",
    "touch",
    "truncate",
];

/// Steps on a tree with owners that no user namespace has. Those that begin with `=` give the same with a single id;
/// the others read owners, change those of symbolic links, or copy extended attributes without owners, and a single id
/// cannot show them.
const STEPS: &str = r#"
=touch /opt/app/new
=chmod 750 /opt/app/d/two
=chmod 2770 /opt/app/d
=chmod -R g+w /opt/app/d/e
=chmod 4750 /opt/app/su
=mv /opt/app/one /opt/app/moved
=mv /opt/app/d/two /opt/two
 mv /opt/app/d/e /opt/app/e
 mv /opt/app/e /opt/e && mv /opt/e /opt/app/d/e
 cp -p /opt/app/moved /opt/app/copy
 cp -a /opt/app /opt/all
 cp -a /opt/app/. /srv/
=cp /opt/app/su /opt/su
 cp -p /opt/app/su /opt/su-p
 cp --preserve=ownership /opt/app/d/e/x /opt/x
 cp -al /opt/app /opt/linked
 cp -as /opt/app /opt/symlinked
=ln /opt/app/moved /opt/app/hard
=ln /opt/app/uno /hard
=ln -s moved /opt/app/soft
=ln -sf new /opt/app/link
 mv /opt/app/link /opt/link
=cp /opt/app/moved /opt/app/copy && chown 0:0 /opt/app/copy
=chown 1000:1000 /opt/app/new
=chown -R app:staff /opt/app/d
=chown 0:0 /opt/app/d/e/x
 chown --reference=/opt/app/moved /opt/su
 chown -h 5:6 /opt/app/soft
=chown 1000660000 /opt/app/new
=chown :1000680000 /opt/app/hard
=chgrp 1000680000 /opt/app/su
=chown 65300:65301 /opt/two
=chown 65520:65520 /etc/base.conf
=setcap cap_net_bind_service+ep /opt/app/su
=setcap cap_net_raw+ep /bin/busybox
=setcap -r /opt/app/cap
=mkfifo /opt/app/fifo /fifo
=mkfifo -m 622 /opt/set/fifo
=rm /opt/app/pipe
=mkdir /opt/app/dir /opt/app/d/dir && touch /opt/app/d/dir/f
=mkdir -p -m 1777 /opt/app/dir/a/b
=install -o 70 -g 80 -m 4755 /opt/su /opt/app/installed
=install -d -o 1000660000 -g 0 /opt/app/dir/owned
 tar -C /opt -cf - app | tar -C /var -xpf -
 tar -C /opt --numeric-owner -cf - app | tar -C /home --numeric-owner --same-owner -xpf -
=tar -C / --xattrs -cf /x.tar opt/app && rm /x.tar
=tar --owner=9 --group=10 -C /etc -cf - passwd | tar -C /opt/app -xf -
 (cd /opt/app && find . | cpio -o -H newc) > /x.cpio && mkdir /cpio && (cd /cpio && cpio -idm < /x.cpio) && rm /x.cpio
 stat -c '%n %u:%g %a %F' /opt/app /opt/app/* /opt/set > /stat
 ls -lnR --time-style=+ /opt/app /srv | grep -v ^total > /ls
 find /opt -user 1000660000 | sort > /found
 find / -xdev -nouser | sort > /nouser
=echo more >> /opt/app/moved
=sed -i s/o/0/ /opt/app/moved
=truncate -s 100 /opt/app/copy
=dd if=/dev/zero of=/opt/app/zeros bs=1k count=3
=dd if=/dev/zero of=/opt/app/moved bs=1 count=1 conv=notrunc
 rm -r /opt/linked
 rm -r /opt/all/d && mkdir /opt/all/d
 rm -r /srv/d; cp -a /opt/app/d /srv/d
=rm /opt/app/cap; cp /opt/su /opt/app/cap
 mv /opt/all /opt/all2
 mv /opt/app /opt/app2 && mv /opt/app2 /opt/app
 mv -T /opt/app/dir /opt/app/d/dir2
 mv -T /opt/app/d/dir2 /opt/app/dir
=touch -d @1000000000 /opt/app/moved
=touch -h -d @1 /opt/app/soft
=umask 027; echo x > /opt/app/masked; mkdir /opt/app/maskeddir
=mkdir /t && chown 0:1000680000 /t && chmod 2775 /t && touch /t/f && mkdir /t/d
 su app -c 'touch /tmp/mine; mkdir /tmp/mydir'
=touch /tmp/x && chown nobody:nogroup /tmp/x
=echo hi > /etc/new.conf && chmod 600 /etc/new.conf
=cp -a /etc /etc2
 cp -p /etc/passwd /opt/app/passwd
=ln /etc/passwd /opt/app/passwd2
=dpkg-deb -b /pkg /pkg.deb && cd /var && mkdir -p lib/dpkg/info lib/dpkg/updates && touch lib/dpkg/status lib/dpkg/available && dpkg --force-all -i /pkg.deb && rm /pkg.deb
=dpkg --force-all -r tpkg
=dpkg --force-all -P tpkg
=mv /opt/set/f /opt/f
 mv /opt/set /opt/set2
 cp -a /opt/set2 /opt/set
 rm -r /opt/set
=set -o noclobber; > /opt/app/clobber
=mkdir /deep && cd /deep && for i in 1 2 3 4 5 6 7 8 9; do mkdir $i && cd $i; done
=cat /opt/app/su > /opt/app/su2
=cp /dev/null /opt/app/empty
=echo z > /opt/app/z && chmod 000 /opt/app/z
=chown 1000670000:1000680000 /opt/app/z
=chown -R 1000670000:0 /opt/app/dir
=mkdir /mode && chmod 7777 /mode
=echo tester:x:77:77::/:/bin/sh >> /etc/passwd; echo t:x:77: >> /etc/group; chown tester:t /mode
=mv /etc/passwd /etc/p && cp -p /etc/p /etc/passwd
=touch "/opt/app/with space" $'/opt/app/new\tline'
=ln /opt/app/su /opt/app/su-hard
=rm -r /opt/app/d && mkdir -m 2755 /opt/app/d && echo x > /opt/app/d/f
=touch /var/new /opt/app/d/f
=find /opt/app -type f -exec touch {} +
=find /opt/app -type d -exec chmod g+s {} + && mkdir /opt/app/dir/under
=find /opt/app -name 'n*' -type f -exec chgrp 5 {} +
=chmod 600 /opt/nodes/null
=touch -h -d @9 /opt/nodes/null
=mv /opt/nodes/disk /opt/nodes/moved && ln /opt/nodes/moved /opt/nodes/again
=chown 5:6 /opt/nodes/null
 rsync -aHX /opt/app/ /rsynced/
 rsync -a --delete --numeric-ids /opt/app/dir/ /rsynced/
=rsync -r --chmod=D750,F640 /pkg/ /rsynced-r
=truncate -s 1M /sparse && dd if=/dev/zero of=/sparse bs=1 count=1 seek=5000 conv=notrunc
=cp --sparse=always /sparse /sparse2 && echo x >> /sparse2
=setfattr -n user.note -v one /opt/app/moved && setfattr -n user.note -v dir /opt/app/dir
 cp --preserve=xattr /opt/app/moved /noted
=setfattr -x user.note /opt/app/moved
=mknod /pipe2 p
=rm -r /usr/share/base && mkdir /usr/share/base && echo x > /usr/share/base/x
=mv /usr/share/base /usr/share/base2 && mv /usr/share/base2 /usr/share/base3
 mv /srv /srv2 && cp -a /srv2 /srv
=rm /opt/app/hard && ln /opt/app/su /opt/app/hard && rm /opt/app/su
=rm -rf /opt/app && mkdir /opt/app && chown 5:6 /opt/app
=: > /with-a-hole; rm /with-a-hole; mkdir /with-a-hole; rmdir /with-a-hole; ln -s nowhere /with-a-hole
"#;

const HEAD: &str = "FROM parity-base
ADD tools.tar app.tar /
COPY pkg /pkg
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/bin
SHELL [\"/usr/local/bin/bash\", \"-c\"]
";

/// A context with a Dockerfile of these steps.
fn context(steps: &[&str]) -> Context {
    let lines: Vec<String> = steps.iter().map(|step| format!("RUN {}\n", step.replace('\\', "\\\\"))).collect();
    let context = Context::new(&format!("{HEAD}{}", lines.concat()));
    let control = "Package: tpkg\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.x>\nDescription: x\n";
    context.write("pkg/DEBIAN/control", control);
    context.write("pkg/DEBIAN/conffiles", "/etc/tpkg.conf\n");
    context.write("pkg/DEBIAN/postinst", "#!/bin/sh\nset -e\nchown 7:8 /usr/lib/tpkg/f\nchmod 4711 /usr/lib/tpkg/f\n");
    fs::set_permissions(context.join("pkg/DEBIAN/postinst"), Permissions::from_mode(0o755)).unwrap();
    context.write("pkg/usr/lib/tpkg/f", "f\n");
    context.write("pkg/etc/tpkg.conf", "conf=1\n");
    let (tools, app) = (temp(), temp());
    install_programs(tools.path());
    make_app(app.path());
    for (name, tree) in [("tools.tar", &tools), ("app.tar", &app)] {
        let tar =
            tool("tar").arg("-C").arg(tree.path()).args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf"]);
        tar.arg(context.join(name)).arg(".").ok();
        fs::set_permissions(context.join(name), Permissions::from_mode(0o644)).unwrap();
    }
    context
}

fn install_programs(root: &Path) {
    fs::create_dir_all(root.join("usr/local/bin")).unwrap();
    for program in PROGRAMS {
        let found = tool("sh").args(["-c", "PATH=$PATH:/usr/sbin:/sbin command -v \"$1\"", "sh", program]).ok().stdout;
        let found = fs::canonicalize(found.trim()).unwrap();
        fs::copy(&found, root.join("usr/local/bin").join(program)).unwrap();
        let libraries = tool("ldd").arg(&found).end().stdout;
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            let place = root.join(library.trim_start_matches('/'));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(library, place).unwrap();
        }
    }
}

/// Owners that no namespace has (1000660000 and the like), one that is kept for stand-ins (65300), and devices.
fn make_app(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("opt/app/d/e")).unwrap();
    fs::create_dir_all(at("opt/set")).unwrap();
    fs::create_dir_all(at("opt/nodes")).unwrap();
    for (name, text) in [("one", "one\n"), ("d/two", "two\n"), ("d/e/x", "x\n")] {
        fs::write(at("opt/app").join(name), text).unwrap();
    }
    fs::write(at("opt/set/f"), "f\n").unwrap();
    fs::hard_link(at("opt/app/one"), at("opt/app/uno")).unwrap();
    symlink("one", at("opt/app/link")).unwrap();
    tool("mkfifo").arg(at("opt/app/pipe")).ok();
    for name in ["opt/app/su", "opt/app/cap"] {
        fs::write(at(name), "program\n").unwrap();
    }
    tool("mknod").arg(at("opt/nodes/null")).args(["c", "1", "3"]).ok();
    tool("mknod").arg(at("opt/nodes/disk")).args(["b", "7", "0"]).ok();
    tool("chown").args(["-hR", "1000660000:0"]).arg(at("opt/app")).ok();
    lchown(at("opt/app/d/e"), Some(1_000_670_000), Some(1_000_680_000)).unwrap();
    chown(at("opt/app/d/e/x"), Some(1_000_670_000), Some(1_000_680_000)).unwrap();
    chown(at("opt/app/d/two"), Some(5), Some(1_000_680_000)).unwrap();
    chown(at("opt/set"), Some(65_300), Some(65_300)).unwrap();
    chown(at("opt/set/f"), Some(65_300), Some(5)).unwrap();
    for (name, mode) in [("su", 0o4755), ("cap", 0o755), ("d", 0o2775)] {
        fs::set_permissions(at("opt/app").join(name), Permissions::from_mode(mode)).unwrap();
    }
    tool("setcap").arg("cap_net_raw+ep").arg(at("opt/app/cap")).ok();
}

fn build(store: &Store, context: &Context) -> CommandOutput {
    store.build(context).env("SOURCE_DATE_EPOCH", "1700000000").ok()
}

/// The layers of the image `demo`: instruction and diff ID.
fn layers(store: &Store) -> Vec<(String, String)> {
    let config = &store.inspect("demo")["config"];
    let history = list(&config["history"]).iter().filter(|entry| entry["empty_layer"] != true);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    history.zip(list(&config["rootfs"]["diff_ids"])).map(|(entry, id)| (text(&entry["created_by"]), text(id))).collect()
}

/// Builds the steps as root and as `user`, and asserts that the images are equal.
fn assert_equal_for(user: &User, steps: &[&str]) {
    let context = context(steps);
    let (of_root, of_user) = thread::scope(|scope| {
        let of_root = scope.spawn(|| {
            let store = Store::with_base();
            build(&store, &context);
            store
        });
        let store = with_base(user);
        build(&store, &context);
        (of_root.join().unwrap(), store)
    });
    let (of_root_layers, of_user_layers) = (layers(&of_root), layers(&of_user));
    let differ: Vec<&(String, String)> =
        of_user_layers.iter().zip(&of_root_layers).filter(|(user, root)| user != root).map(|(user, _)| user).collect();
    assert!(differ.is_empty(), "these steps gave another layer than root's: {differ:#?}");
    assert_eq!(of_user.digest("demo"), of_root.digest("demo"));
    valid_image(&of_user, "demo:latest");
}

#[test]
fn a_hundred_steps_give_root_s_image_with_subordinate_ids() {
    let steps: Vec<&str> = STEPS.lines().filter(|line| !line.is_empty()).map(|line| &line[1..]).collect();
    assert!(steps.len() >= 100, "{}", steps.len());
    assert_equal_for(&user_with_subids(), &steps);
}

#[test]
fn steps_that_read_no_owners_give_root_s_image_with_a_single_id() {
    let steps: Vec<&str> = STEPS.lines().filter_map(|line| line.strip_prefix('=')).collect();
    assert!(steps.len() >= 70, "{}", steps.len());
    assert_equal_for(&user_without_subids(), &steps);
}

#[test]
fn steps_that_need_more_ids_or_devices_are_refused_with_a_reason() {
    let store = with_base(&user_with_subids());
    for (step, reason) in [
        ("chown 1000690000 /opt/app/one", "only 65537 ids"),
        ("chown 0:70000 /opt/app/one", "/etc/subgid"),
        ("install -o 1000690000 /etc/passwd /p", "only 65537 ids"),
        ("mknod /null c 1 3", "Operation not permitted"),
    ] {
        let refused = store.build(&context(&[step])).fails(1);
        refused.says(reason);
    }
}

#[test]
fn a_user_that_no_namespace_has_can_run_commands() {
    let store = with_base(&user_with_subids());
    let context = context(&["touch /tmp/mine"]);
    let dockerfile = format!("{HEAD}USER 1000690000:1000700000\nRUN touch /tmp/mine; id > /tmp/id\n");
    context.write("Dockerfile", &dockerfile);
    let by_user = build(&store, &context);
    let of_root = Store::with_base();
    assert_eq!(by_user.digest(), build(&of_root, &context).digest());
    let said = store.dram(["run", "demo", "busybox", "stat", "-c", "%u:%g", "/tmp/mine", "/opt/app", "/opt/set"]).ok();
    assert_eq!(said.stdout, "1000690000:1000700000\n1000660000:0\n65300:65300\n");
}

#[test]
fn an_access_control_list_that_a_command_sets_is_lost_with_a_warning() {
    let tree = temp();
    let file = tree.path().join("listed");
    fs::write(&file, "text\n").unwrap();
    let set = "import os,struct,sys; os.setxattr(sys.argv[1], 'system.posix_acl_access', struct.pack('<I', 2) + b''.join(\
               struct.pack('<HHI', tag, 6, who) for tag, who in [(1, 2**32-1), (2, 4242), (4, 2**32-1), (16, 2**32-1), (32, 2**32-1)]))";
    tool("python3").args(["-c", set]).arg(&file).ok();
    let context = context(&["tar -C /srv --acls -xf /pkg/listed.tar", "stat -c %a /srv/listed > /seen"]);
    tool("tar")
        .arg("-C")
        .arg(tree.path())
        .arg("--acls")
        .arg("-cf")
        .arg(context.join("pkg/listed.tar"))
        .arg("listed")
        .ok();
    let digests = [Store::with_base(), with_base(&user_with_subids())].map(|store| {
        let built = build(&store, &context).says("the access control list (`setfacl`) of `/srv/listed` is lost");
        assert_eq!(store.dram(["run", "demo", "cat", "/seen"]).ok().stdout, "666\n");
        built.digest()
    });
    assert_eq!(digests[0], digests[1]);
}
