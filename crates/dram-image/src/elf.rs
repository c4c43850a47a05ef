//! The runtime requirements of a program, read from its ELF file.
//!
//! Follows the System V ABI: `PT_INTERP` is the dynamic loader, `DT_NEEDED` the shared libraries.

use std::io::{Read, Seek};

use object::elf::{
    DF_1_NODEFLIB, DT_FLAGS_1, DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, DT_STRSZ, DT_STRTAB, DT_VERDEF, DT_VERNEED,
    DynamicTag, ET_DYN, ET_EXEC, FileHeader32, FileHeader64, PT_DYNAMIC, PT_INTERP, PT_LOAD, VER_FLG_WEAK,
};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::read::{ReadCache, ReadRef};
use object::{Endian as _, Endianness, FileKind};

/// The runtime requirements of a program or library: the loader, the shared libraries and their symbol versions; and
/// what it offers to others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ElfRequirements {
    /// The path of the dynamic loader; `None` for a library and for a static program.
    pub interpreter: Option<String>,
    /// The names of the shared libraries, in the order in which the loader looks for them.
    pub libraries: Vec<String>,
    /// The library search path, from `DT_RUNPATH` or else `DT_RPATH`; may hold `$ORIGIN`.
    pub search: Vec<String>,
    /// True if `search` is a `DT_RPATH`, which also counts for the libraries of the libraries.
    pub search_is_inherited: bool,
    /// True if the default directories of the loader are not searched (`DF_1_NODEFLIB`).
    pub no_default_dirs: bool,
    /// The symbol versions that are required: the library, and a version such as `GLIBC_2.34`. Those that only weak
    /// symbols use are left out.
    pub versions: Vec<(String, String)>,
    /// The symbol versions that it defines, for a library.
    pub defined_versions: Vec<String>,
    /// The name of the library (`DT_SONAME`).
    pub soname: Option<String>,
    /// True for a program or a shared object; false for an object file or a core dump, which nothing can load.
    pub is_loadable: bool,
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
/// The largest part of a file that is read as one table, in bytes. Large C++ libraries have 10 MB of names.
const MAX_TABLE_BYTES: u64 = 32 << 20;
/// The largest part of a file that is read for version records, in bytes.
const MAX_VERSION_BYTES: u64 = 1 << 20;

/// Reads the requirements of the ELF file `bytes`, or returns `None` when it is not an ELF file, or malformed.
pub fn read_requirements(bytes: &[u8]) -> Option<ElfRequirements> {
    read_any(bytes)
}

/// Reads the requirements of an ELF file, or returns `None` when it is not an ELF file, or malformed. Only the headers
/// and the dynamic section of the file are read, so that its size does not matter.
pub fn read_file_requirements(file: impl Read + Seek) -> Option<ElfRequirements> {
    read_any(&ReadCache::new(file))
}

fn read_any<'a>(data: impl ReadRef<'a>) -> Option<ElfRequirements> {
    match FileKind::parse(data).ok()? {
        FileKind::Elf64 => read_elf::<FileHeader64<Endianness>, _>(data),
        FileKind::Elf32 => read_elf::<FileHeader32<Endianness>, _>(data),
        _ => None,
    }
}

/// Returns Linux's name of a machine type.
pub fn machine_name(machine: u16) -> String {
    match machine {
        3 => "i386".to_owned(),
        8 => "mips".to_owned(),
        21 => "ppc64".to_owned(),
        22 => "s390x".to_owned(),
        40 => "arm".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv".to_owned(),
        258 => "loongarch".to_owned(),
        other => format!("machine {other}"),
    }
}

fn read_elf<'a, Elf: FileHeader<Endian = Endianness>, R: ReadRef<'a>>(data: R) -> Option<ElfRequirements> {
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let mut needs = ElfRequirements {
        machine: header.e_machine(endian).0,
        is_loadable: [ET_EXEC, ET_DYN].contains(&header.e_type(endian)),
        ..ElfRequirements::default()
    };
    let is_small = |segment: &&Elf::ProgramHeader| segment.file_range(endian).1 <= MAX_VERSION_BYTES;
    if let Some(loader) = segments.iter().find(|segment| segment.p_type(endian) == PT_INTERP) {
        let path = Some(loader).filter(is_small)?.data(endian, data).ok()?;
        needs.interpreter = Some(ElfStrings::new(path).string_at(0, MAX_NAME_BYTES)?);
    }
    // The sections are not read, as stripping may remove them. The loader reads the segments too.
    let Some(dynamic) = segments.iter().find(|segment| segment.p_type(endian) == PT_DYNAMIC) else {
        return Some(needs);
    };
    let Some(entries) = Some(dynamic).filter(is_small)?.dynamic(endian, data).ok().flatten() else {
        return Some(needs);
    };
    let value = |tag: DynamicTag| -> Option<u64> {
        let entry = entries.iter().find(|entry| entry.tag(endian) == tag)?;
        Some(entry.d_val(endian).into())
    };
    // Returns at most `most` bytes of the file content that is loaded at `address`, up to the end of its segment.
    let loaded = |address: u64, most: u64| {
        segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD).find_map(|segment| {
            let at = address.checked_sub(segment.p_vaddr(endian).into())?;
            let (offset, size) = segment.file_range(endian);
            let length = size.checked_sub(at).filter(|length| *length > 0)?.min(most);
            data.read_bytes_at(offset.checked_add(at)?, length).ok()
        })
    };
    let mut strings = ElfStrings::new(loaded(value(DT_STRTAB)?, strings_length(value(DT_STRSZ)))?);
    for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
        if needs.libraries.len() >= MAX_RECORDS {
            return None;
        }
        needs.libraries.push(strings.string_at(entry.d_val(endian).into(), MAX_NAME_BYTES)?);
    }
    needs.search_is_inherited = value(DT_RUNPATH).is_none();
    if let Some(at) = value(DT_RUNPATH).or_else(|| value(DT_RPATH)) {
        let paths = strings.string_at(at, MAX_SEARCH_BYTES)?;
        needs.search = paths.split(':').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    }
    needs.no_default_dirs = value(DT_FLAGS_1).is_some_and(|flags| flags & DF_1_NODEFLIB.0 != 0);
    // The name and the versions are not needed to find the libraries, so the rest is still of use without them.
    needs.soname = value(DT_SONAME).and_then(|at| strings.string_at(at, MAX_NAME_BYTES));
    if let Some(records) = value(DT_VERNEED).and_then(|at| loaded(at, MAX_VERSION_BYTES)) {
        needs.versions = read_versions(records, &mut strings, endian).unwrap_or_default();
    }
    if let Some(records) = value(DT_VERDEF).and_then(|at| loaded(at, MAX_VERSION_BYTES)) {
        needs.defined_versions = read_defined_versions(records, &mut strings, endian).unwrap_or_default();
    }
    Some(needs)
}

/// The number of bytes to read for the string table: its size, if the file says it.
fn strings_length(size: Option<u64>) -> u64 {
    size.filter(|size| *size > 0).unwrap_or(MAX_TABLE_BYTES).min(MAX_TABLE_BYTES)
}

fn number_at(records: &[u8], at: usize, endian: Endianness) -> Option<u32> {
    Some(endian.read_u32(records.get(at..)?.get(..4)?.try_into().ok()?))
}

/// Reads the version records of `DT_VERNEED` (Linux Standard Base, symbol versioning): a list of libraries, each with a
/// list of versions, linked by offsets. Offsets must lead forward, so that the loops end.
fn read_versions(records: &[u8], strings: &mut ElfStrings<'_>, endian: Endianness) -> Option<Vec<(String, String)>> {
    let long = |at: usize| number_at(records, at, endian);
    let half = |at: usize| Some(endian.read_u16(records.get(at..)?.get(..2)?.try_into().ok()?));
    let (mut found, mut seen) = (Vec::new(), 0);
    let mut at = 0_usize;
    loop {
        let library = strings.string_at(long(at + 4)?.into(), MAX_NAME_BYTES)?;
        let mut version = at.checked_add(long(at + 8)? as usize)?;
        loop {
            seen += 1;
            if seen > MAX_RECORDS {
                return None;
            }
            let name = strings.string_at(long(version.checked_add(8)?)?.into(), MAX_NAME_BYTES)?;
            strings.spend(library.len())?;
            if half(version + 4)? & VER_FLG_WEAK.0 == 0 {
                found.push((library.clone(), name));
            }
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

/// Reads the version records of `DT_VERDEF`: a list of versions, the first name of each is its own.
fn read_defined_versions(records: &[u8], strings: &mut ElfStrings<'_>, endian: Endianness) -> Option<Vec<String>> {
    let long = |at: usize| number_at(records, at, endian);
    let mut found = Vec::new();
    let mut at = 0_usize;
    while found.len() < MAX_RECORDS {
        let name = at.checked_add(long(at.checked_add(12)?)? as usize)?;
        found.push(strings.string_at(long(name)?.into(), MAX_NAME_BYTES)?);
        match long(at + 16)? as usize {
            0 => return Some(found),
            next => at = at.checked_add(next)?,
        }
    }
    None
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
        assert!(needs.is_loadable && needs.soname.as_deref() == Some("libm.so.6"), "{needs:?}");
        assert!(needs.defined_versions.iter().any(|version| version.starts_with("GLIBC_2.")), "{needs:?}");
        assert_eq!(read_file_requirements(std::io::Cursor::new(&bytes)).as_ref(), Some(&needs));
        // A truncated file must not cause a panic.
        for length in (0..bytes.len()).step_by(4099) {
            let _ = super::read_requirements(&bytes[..length]);
        }
    }
}
