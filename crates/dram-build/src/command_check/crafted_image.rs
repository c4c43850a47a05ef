//! Images for tests: their files and their config.

#![allow(clippy::disallowed_methods, reason = "the tests make the files of the images")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use dram_image::config::EmptyObject;
use dram_image::{ContainerConfig, Healthcheck, ImageConfig};
use dram_store::MergedTree;

use super::check_commands;
use super::crafted_elf::CraftedElf;

pub(super) const GLIBC_LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
pub(super) const MUSL_LOADER: &str = "/lib/ld-musl-x86_64.so.1";
pub(super) const MULTIARCH: &str = "/lib/x86_64-linux-gnu";

/// An image: its files in a temporary directory, and its config.
pub(super) struct CraftedImage {
    pub(super) dir: tempfile::TempDir,
    pub(super) config: ImageConfig,
}

pub(super) fn image() -> CraftedImage {
    let path = "PATH=/usr/local/bin:/usr/bin:/bin".to_owned();
    let config = ContainerConfig { env: vec![path], ..ContainerConfig::default() };
    let config = ImageConfig { os: "linux".into(), architecture: "amd64".into(), config, ..ImageConfig::default() };
    CraftedImage { dir: tempfile::tempdir().unwrap(), config }
}

pub(super) fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl CraftedImage {
    pub(super) fn place(&self, path: &str) -> PathBuf {
        let place = self.dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        place
    }

    pub(super) fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> CraftedImage {
        let place = self.place(path);
        fs::write(&place, content).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(super) fn script(self, path: &str, content: &str) -> CraftedImage {
        self.file(path, 0o755, content)
    }

    pub(super) fn link(self, path: &str, target: &str) -> CraftedImage {
        symlink(target, self.place(path)).unwrap();
        self
    }

    pub(super) fn dir(self, path: &str, mode: u32) -> CraftedImage {
        let place = self.place(path);
        fs::create_dir_all(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(super) fn elf(self, path: &str, elf: &CraftedElf) -> CraftedImage {
        self.file(path, 0o755, elf.bytes())
    }

    /// A static program.
    pub(super) fn program(self, path: &str) -> CraftedImage {
        self.elf(path, &CraftedElf { file_type: 2, ..CraftedElf::default() })
    }

    pub(super) fn shell(self) -> CraftedImage {
        self.program("/bin/sh")
    }

    /// The loader and the libc of Debian, with versions up to 2.36.
    pub(super) fn glibc(self) -> CraftedImage {
        let more =
            b"\0/etc/ld.so.cache\0/lib/x86_64-linux-gnu/\0/usr/lib/x86_64-linux-gnu/\0/lib/\0/usr/lib/\0".to_vec();
        let loader = CraftedElf { soname: Some("ld-linux-x86-64.so.2"), more, ..CraftedElf::default() };
        let defines = vec!["GLIBC_2.2.5", "GLIBC_2.4", "GLIBC_2.34", "GLIBC_2.36"];
        let libc = CraftedElf {
            soname: Some("libc.so.6"),
            defines,
            needed: vec!["ld-linux-x86-64.so.2"],
            ..CraftedElf::default()
        };
        self.elf(GLIBC_LOADER, &loader).elf(&format!("{MULTIARCH}/libc.so.6"), &libc)
    }

    pub(super) fn musl(self) -> CraftedImage {
        let more = b"\0/etc/ld-musl-x86_64.path\0".to_vec();
        self.elf(MUSL_LOADER, &CraftedElf { more, ..CraftedElf::default() })
    }

    pub(super) fn library(self, path: &str) -> CraftedImage {
        self.elf(path, &CraftedElf::default())
    }

    /// A release of Mix, relx or dram with an emulator that is `beam`.
    pub(super) fn release(self, conf: Option<&str>, beam: &CraftedElf) -> CraftedImage {
        let tree =
            self.file("/app/releases/start_erl.data", 0o644, "15.2 0.1.0\n").elf("/app/erts-15.2/bin/beam.smp", beam);
        match conf {
            Some(conf) => tree.program("/app/bin/app").file("/app/releases/0.1.0/start.conf", 0o644, conf),
            None => tree.script("/app/bin/app", "#!/bin/sh\n"),
        }
    }

    pub(super) fn entry(mut self, words: &[&str]) -> CraftedImage {
        self.config.config.entrypoint = Some(owned(words));
        self
    }

    pub(super) fn cmd(mut self, words: &[&str]) -> CraftedImage {
        self.config.config.cmd = Some(owned(words));
        self
    }

    pub(super) fn health(mut self, words: &[&str]) -> CraftedImage {
        self.config.config.healthcheck = Some(Healthcheck { test: owned(words), ..Healthcheck::default() });
        self
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> CraftedImage {
        self.config.config.set_env(name, value);
        self
    }

    pub(super) fn workdir(mut self, path: &str) -> CraftedImage {
        self.config.config.working_dir = path.to_owned();
        self
    }

    pub(super) fn user(mut self, user: &str) -> CraftedImage {
        self.config.config.user = user.to_owned();
        self
    }

    pub(super) fn volume(mut self, path: &str) -> CraftedImage {
        self.config.config.volumes.insert(path.to_owned(), EmptyObject {});
        self
    }

    pub(super) fn arch(mut self, name: &str) -> CraftedImage {
        self.config.architecture = name.to_owned();
        self
    }

    /// Returns the faults, as the keyword and the message.
    pub(super) fn verdict(&self) -> Vec<String> {
        let tree = MergedTree::open(&[self.dir.path().to_owned()]).unwrap();
        let faults = check_commands(&tree, &self.config).unwrap();
        faults.iter().map(|fault| format!("{}: {}", fault.instruction.keyword(), fault.reason.message)).collect()
    }
}

pub(super) fn glibc_program(needed: &[&'static str]) -> CraftedElf {
    let interpreter = Some(GLIBC_LOADER);
    CraftedElf { interpreter, needed: [&["libc.so.6"], needed].concat(), ..CraftedElf::default() }
}

pub(super) fn musl_program(needed: &[&'static str]) -> CraftedElf {
    let needed = [&["libc.musl-x86_64.so.1"], needed].concat();
    CraftedElf { interpreter: Some(MUSL_LOADER), needed, ..CraftedElf::default() }
}

pub(super) fn with_search(
    mut elf: CraftedElf,
    rpath: Option<&'static str>,
    runpath: Option<&'static str>,
) -> CraftedElf {
    (elf.rpath, elf.runpath) = (rpath, runpath);
    elf
}
