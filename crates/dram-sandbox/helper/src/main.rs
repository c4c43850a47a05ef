//! The helper of a jail: input and output of this program are in `dram-sandbox`, this is its start and its memory.
#![no_std]
#![no_main]

mod sys;
