//! Modules of the installed OTP and Elixir.
