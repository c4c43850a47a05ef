%% Where the ferry lies.
-module(dock).
-export([name/0]).

name() -> application:get_env(ferry, harbour, "at sea").
