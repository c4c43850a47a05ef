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
/// The largest name of a library or version, and the longest path, in bytes; Linux takes no longer ones.
const MAX_NAME_BYTES: usize = 4096;
/// The largest search path, in bytes.
const MAX_SEARCH_BYTES: usize = 64 << 10;
/// The largest sum of all strings of one file, in bytes. Many records may point at one long string.
const MAX_STRING_BYTES: usize = 1 << 20;

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
        needs.interpreter = Some(ElfStrings::new(loader.data(endian, bytes).ok()?).string_at(0, MAX_NAME_BYTES)?);
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
    let mut strings = ElfStrings::new(loaded(value(DT_STRTAB)?)?);
    for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
        if needs.libraries.len() >= MAX_RECORDS {
            return None;
        }
        needs.libraries.push(strings.string_at(entry.d_val(endian).into(), MAX_NAME_BYTES)?);
    }
    if let Some(at) = value(DT_RUNPATH).or_else(|| value(DT_RPATH)) {
        let paths = strings.string_at(at, MAX_SEARCH_BYTES)?;
        needs.search = paths.split(':').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    }
    if let Some(records) = value(DT_VERNEED).and_then(loaded) {
        // The versions are only minimum versions of libraries, so the rest is still of use without them.
        needs.versions = read_versions(records, &mut strings, endian).unwrap_or_default();
    }
    Some(needs)
}

/// Reads the version records of `DT_VERNEED` (Linux Standard Base, symbol versioning): a list of libraries, each with a
/// list of versions, linked by offsets. Offsets must lead forward, so that the loops end.
fn read_versions(records: &[u8], strings: &mut ElfStrings<'_>, endian: Endianness) -> Option<Vec<(String, String)>> {
    let long = |at: usize| Some(endian.read_u32(records.get(at..)?.get(..4)?.try_into().ok()?));
    let mut found = Vec::new();
    let mut at = 0_usize;
    loop {
        let library = strings.string_at(long(at + 4)?.into(), MAX_NAME_BYTES)?;
        let mut version = at.checked_add(long(at + 8)? as usize)?;
        loop {
            if found.len() >= MAX_RECORDS {
                return None;
            }
            let name = strings.string_at(long(version.checked_add(8)?)?.into(), MAX_NAME_BYTES)?;
            strings.spend(library.len())?;
            found.push((library.clone(), name));
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

/// A string table, and the bytes that its strings may still take.
struct ElfStrings<'a> {
    table: &'a [u8],
    left: usize,
}

impl<'a> ElfStrings<'a> {
    fn new(table: &'a [u8]) -> ElfStrings<'a> {
        ElfStrings { table, left: MAX_STRING_BYTES }
    }

    /// Returns the NUL-terminated string at `at`, or `None` when there is none, or it is longer than `max`.
    fn string_at(&mut self, at: u64, max: usize) -> Option<String> {
        let rest = self.table.get(usize::try_from(at).ok()?..)?;
        let length = rest.iter().take(max + 1).position(|byte| *byte == 0)?;
        self.spend(length)?;
        Some(std::str::from_utf8(&rest[..length]).ok()?.to_owned())
    }

    /// Subtracts `bytes` from what is left; returns `None` when that is too little.
    fn spend(&mut self, bytes: usize) -> Option<()> {
        self.left = self.left.checked_sub(bytes)?;
        Some(())
    }
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

    /// An ELF file for x86-64 with one segment that is loaded, `DT_NEEDED` entries that all lead to `string`, and a list of
    /// versions of it.
    fn library_that_needs(string: &[u8], count: usize, versions: u32) -> Vec<u8> {
        let (header, segment) = (64_usize, 56_usize);
        let dynamic = header + 2 * segment;
        let entries = count + 3;
        let verneed = dynamic + entries * 16;
        let strings = verneed + 16 + 16 * versions as usize;
        let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let half = |bytes: &mut Vec<u8>, value: u16| bytes.extend(value.to_le_bytes());
        let word = |bytes: &mut Vec<u8>, value: u32| bytes.extend(value.to_le_bytes());
        let long = |bytes: &mut Vec<u8>, value: usize| bytes.extend((value as u64).to_le_bytes());
        half(&mut bytes, 3);
        half(&mut bytes, 62);
        word(&mut bytes, 1);
        [0, header, 0].iter().for_each(|value| long(&mut bytes, *value));
        word(&mut bytes, 0);
        [64, 56, 2, 64, 0, 0].iter().for_each(|value| half(&mut bytes, *value));
        let size = strings + 1 + string.len() + 1;
        for (kind, at, length) in [(1, 0, size), (2, dynamic, entries * 16)] {
            word(&mut bytes, kind);
            word(&mut bytes, 4);
            [at, at, at, length, length, 8].iter().for_each(|value| long(&mut bytes, *value));
        }
        let needed = std::iter::repeat_n((1, 1), count);
        // DT_STRTAB, DT_VERNEED, DT_NULL
        for (tag, value) in needed.chain([(5, strings), (0x6fff_fffe, verneed), (0, 0)]) {
            long(&mut bytes, tag);
            long(&mut bytes, value);
        }
        half(&mut bytes, 1);
        half(&mut bytes, versions as u16);
        [1, 16, 0].iter().for_each(|value| word(&mut bytes, *value));
        for version in 0..versions {
            let next = if version + 1 == versions { 0 } else { 16 };
            [0, 0, 1, next].iter().for_each(|value| word(&mut bytes, *value));
        }
        bytes.push(0);
        bytes.extend(string);
        bytes.push(0);
        bytes
    }

    #[test]
    fn names_are_bounded_in_count_length_and_sum() {
        let read = |length: usize, count, versions| {
            read_requirements(&library_that_needs(&vec![b'a'; length], count, versions))
        };
        let needs = read(9, 3, 2).unwrap();
        assert_eq!((needs.libraries, needs.versions.len()), (vec!["a".repeat(9); 3], 2));
        assert_eq!(read(MAX_NAME_BYTES, 1, 1).unwrap().versions.len(), 1);
        assert_eq!(read(MAX_NAME_BYTES + 1, 1, 1), None, "too long");
        assert_eq!(read(9, MAX_RECORDS + 1, 1), None, "too many");
        assert_eq!(read(1 << 20, MAX_RECORDS, 1), None, "too long and too many");
        assert_eq!(read(MAX_NAME_BYTES, MAX_STRING_BYTES / MAX_NAME_BYTES + 1, 1), None, "too large a sum");
        // The versions alone are left out: the libraries are still of use.
        let needs = read(MAX_NAME_BYTES, 1, MAX_STRING_BYTES as u32 / MAX_NAME_BYTES as u32).unwrap();
        assert_eq!((needs.libraries.len(), needs.versions.len()), (1, 0));
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
