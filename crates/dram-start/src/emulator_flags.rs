//! The `+` flags of the emulator that take their value as the next argument.
//!
//! The union of the flags of OTP 23 to 28: no flag takes a value in one release and none in another.

/// The arguments that a `+` flag covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlagArity {
    /// Only the flag.
    FlagOnly,
    /// The flag and any next argument.
    AnyArgument,
    /// The flag and a next argument that is not itself a flag.
    NonFlagArgument,
    /// The flag, and the next argument if it is one of these values.
    OneOf(&'static [&'static [u8]]),
}

const ALLOCATORS: &[u8] = b"uBIDEFHLRSTZX";

const ALLOCATOR_VALUES: &[&[u8]] = &[
    b"as", b"asbcst", b"atags", b"acul", b"acnl", b"acfml", b"cp", b"e", b"t", b"lmbcs", b"mbcgs", b"mbsd", b"mmbcs",
    b"mmmbc", b"mmsbc", b"msbclt", b"ramv", b"rmbcmt", b"rsbcmt", b"rsbcst", b"sbct", b"smbcs",
];

const MEMORY_VALUES: &[&[u8]] = &[
    b"ea", b"ummc", b"uycs", b"usac", b"im", b"is", b"it", b"lpm", b"Mamcbf", b"Mrmcbf", b"Mmcs", b"Mscs", b"Mscrfsd",
    b"Msco", b"Mscrpm", b"Ye", b"Ym", b"Ytp", b"Ytt", b"Iscs", b"Xscs",
];

const SCHEDULER_VALUES: &[&[u8]] = &[
    b"bt", b"bwtdcpu", b"bwtdio", b"bwt", b"cl", b"ct", b"ecio", b"fwi", b"tbt", b"wct", b"wtdcpu", b"wtdio", b"wt",
    b"ws", b"ss", b"ssdcpu", b"ssdio", b"pp", b"ub", b"rt", b"btc",
];

const HEAP_VALUES: &[&[u8]] = &[b"ms", b"mbs", b"pds", b"max", b"maxk", b"maxel", b"maxib", b"maxibl", b"mqd", b""];

const MISC_VALUES: &[&[u8]] = &[b"dbbl", b"dntgc", b"ebwt", b"osrl", b"hft"];

/// The arity of the flag `+REST`; `None` if the emulator refuses the flag.
pub(crate) fn flag_arity(rest: &[u8]) -> Option<FlagArity> {
    let (Some(first), tail) = (rest.first(), rest.get(1..).unwrap_or_default()) else {
        return Some(FlagArity::FlagOnly);
    };
    let if_among = |list: &[&[u8]]| if list.contains(&tail) { FlagArity::NonFlagArgument } else { FlagArity::FlagOnly };
    Some(match first {
        b'a' | b'A' | b'C' | b'e' | b'i' | b'n' | b'P' | b'Q' | b't' | b'T' | b'R' | b'W' | b'K' => {
            any_value_if_listed(tail, &[b""])
        }
        b'I' => match tail {
            b"Ot" | b"Op" | b"OPt" | b"OPp" => FlagArity::AnyArgument,
            _ if [b"Ot".as_slice(), b"Op", b"OPt", b"OPp"].iter().any(|known| tail.starts_with(known)) => {
                FlagArity::FlagOnly
            }
            _ => return None,
        },
        b'S' => any_value_if_listed(tail, &[b"", b"P", b"Dcpu", b"DPcpu", b"Dio"]),
        b'B' => match tail.first() {
            None => FlagArity::OneOf(&[b"i"]),
            Some(b'i' | b'c' | b'd') => FlagArity::FlagOnly,
            Some(_) => return None,
        },
        b'c' if tail.is_empty() => FlagArity::OneOf(&[b"true", b"false"]),
        b'd' if tail == b"cg" => FlagArity::NonFlagArgument,
        b'J' => FlagArity::AnyArgument,
        b'M' => {
            let allocator = tail.first().is_some_and(|kind| ALLOCATORS.contains(kind));
            match allocator && ALLOCATOR_VALUES.contains(&tail.get(1..).unwrap_or_default()) {
                true => FlagArity::NonFlagArgument,
                false => if_among(MEMORY_VALUES),
            }
        }
        b'h' => if_among(HEAP_VALUES),
        b'r' => if_among(&[b"g"]),
        b's' => if_among(SCHEDULER_VALUES),
        b'p' => any_value_if_listed(tail, &[b"c"]),
        b'z' => if_among(MISC_VALUES),
        _ => FlagArity::FlagOnly,
    })
}

fn any_value_if_listed(tail: &[u8], list: &[&[u8]]) -> FlagArity {
    if list.contains(&tail) { FlagArity::AnyArgument } else { FlagArity::FlagOnly }
}
