//! The runtime requirements of a program, read from its ELF file.
//!
//! Follows the System V ABI: `PT_INTERP` is the dynamic loader, `DT_NEEDED` the shared libraries.

use object::elf::{
    DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_STRTAB, DT_VERNEED, DynamicTag, FileHeader32, FileHeader64, PT_INTERP, PT_LOAD,
};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::{Endian as _, Endianness, FileKind};

/// The runtime requirements of a program or library: the loader, the shared libraries and their symbol versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ElfRequirements {
    /// The path of the dynamic loader; `None` for a library and for a static program.
    pub interpreter: Option<String>,
    /// The names of the shared libraries, in the order in which the loader looks for them.
    pub libraries: Vec<String>,
    /// The library search path, from `DT_RUNPATH` or else `DT_RPATH`; may hold `$ORIGIN`.
    pub search: Vec<String>,
    /// The symbol versions that are used: the library, and a version such as `GLIBC_2.34`.
    pub versions: Vec<(String, String)>,
    /// The machine type (`e_machine`): 62 is x86-64, 183 AArch64.
    pub machine: u16,
}

/// The largest number of dependencies, and of symbol versions, of one file; real files have tens.
const MAX_RECORDS: usize = 4096;

/// Reads the requirements of the ELF file `bytes`, or returns `None` when it is not an ELF file, or malformed.
pub fn read_requirements(bytes: &[u8]) -> Option<ElfRequirements> {
    match FileKind::parse(bytes).ok()? {
        FileKind::Elf64 => read_elf::<FileHeader64<Endianness>>(bytes),
        FileKind::Elf32 => read_elf::<FileHeader32<Endianness>>(bytes),
        _ => None,
    }
}

/// Returns Linux's name of a machine type.
pub fn machine_name(machine: u16) -> String {
    match machine {
        3 => "i386".to_owned(),
        40 => "arm".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv".to_owned(),
        other => format!("machine {other}"),
    }
}

fn read_elf<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Option<ElfRequirements> {
    let header = Elf::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, bytes).ok()?;
    let mut needs = ElfRequirements { machine: header.e_machine(endian).0, ..ElfRequirements::default() };
    if let Some(loader) = segments.iter().find(|segment| segment.p_type(endian) == PT_INTERP) {
        needs.interpreter = Some(text_at(loader.data(endian, bytes).ok()?, 0)?);
    }
    // The sections are not read, as stripping may remove them. The loader reads the segments too.
    let Some(entries) = segments.iter().find_map(|segment| segment.dynamic(endian, bytes).ok().flatten()) else {
        return Some(needs);
    };
    let value = |tag: DynamicTag| -> Option<u64> {
        let entry = entries.iter().find(|entry| entry.tag(endian) == tag)?;
        Some(entry.d_val(endian).into())
    };
    // Returns the file content that is loaded at `address`, up to the end of its segment.
    let loaded = |address: u64| {
        segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD).find_map(|segment| {
            let at = address.checked_sub(segment.p_vaddr(endian).into())?;
            segment.data(endian, bytes).ok()?.get(usize::try_from(at).ok()?..)
        })
    };
    let table = loaded(value(DT_STRTAB)?)?;
    for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED).take(MAX_RECORDS) {
        needs.libraries.push(text_at(table, entry.d_val(endian).into())?);
    }
    if let Some(at) = value(DT_RUNPATH).or_else(|| value(DT_RPATH)) {
        let paths = text_at(table, at)?;
        needs.search = paths.split(':').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    }
    if let Some(records) = value(DT_VERNEED).and_then(loaded) {
        // The versions are only minimum versions of libraries, so the rest is still of use without them.
        needs.versions = read_versions(records, table, endian).unwrap_or_default();
    }
    Some(needs)
}

/// Reads the version records of `DT_VERNEED` (Linux Standard Base, symbol versioning): a list of libraries, each with a
/// list of versions, linked by offsets. Offsets must lead forward, so that the loops end.
fn read_versions(records: &[u8], table: &[u8], endian: Endianness) -> Option<Vec<(String, String)>> {
    let long = |at: usize| Some(endian.read_u32(records.get(at..)?.get(..4)?.try_into().ok()?));
    let mut found = Vec::new();
    let mut at = 0_usize;
    loop {
        let library = text_at(table, long(at + 4)?.into())?;
        let mut version = at.checked_add(long(at + 8)? as usize)?;
        loop {
            if found.len() >= MAX_RECORDS {
                return None;
            }
            found.push((library.clone(), text_at(table, long(version.checked_add(8)?)?.into())?));
            match long(version + 12)? as usize {
                0 => break,
                next => version = version.checked_add(next)?,
            }
        }
        match long(at + 12)? as usize {
            0 => return Some(found),
            next => at = at.checked_add(next)?,
        }
    }
}

/// Returns the NUL-terminated string at `at`.
fn text_at(table: &[u8], at: u64) -> Option<String> {
    let bytes = table.get(usize::try_from(at).ok()?..)?.split(|&byte| byte == 0).next()?;
    Some(std::str::from_utf8(bytes).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_elf_give_none() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0"] {
            assert_eq!(read_requirements(bytes), None, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a real program is the best sample of one")]
    fn libm_of_this_machine_needs_libc_and_its_versions() {
        // Every glibc system has a dynamic `libm`, and it always needs some symbol version of libc.
        let places = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"];
        let Some(bytes) = places.iter().find_map(|path| std::fs::read(path).ok()) else {
            panic!("no libm in {places:?}");
        };
        let needs = read_requirements(&bytes).expect("libm is an ELF file");
        assert!(needs.libraries.contains(&"libc.so.6".to_owned()), "{needs:?}");
        let of_libc: Vec<_> = needs.versions.iter().filter(|(library, _)| library == "libc.so.6").collect();
        assert!(of_libc.iter().any(|(_, version)| version.starts_with("GLIBC_2.")), "{needs:?}");
        // A truncated file must not cause a panic.
        for length in (0..bytes.len()).step_by(4099) {
            let _ = super::read_requirements(&bytes[..length]);
        }
    }
}
