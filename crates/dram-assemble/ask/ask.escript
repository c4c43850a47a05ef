#!/usr/bin/env escript
%% The entry point of the query of a rebar3 project: compiles the query's modules, or
%% loads them from the cache, and runs the query.
%%
%%   escript ask.escript [--beams DIR] PROJECT_DIR ANSWER_FILE [OPTION...] [RELEASE]
%%
%% `dram_rebar.erl` documents the options and the answer. With `--beams`, the compiled
%% modules are cached in DIR, which must be as trusted as the modules. The cache key is the
%% digest of the source and of the versions of Erlang.
main(["--beams", Dir | Args]) -> go(filename:absname(Dir), Args);
main(Args) -> go(none, Args).

go(Beams, Args) ->
    Here = filename:dirname(filename:absname(escript:script_name())),
    [load(Here, Name, Beams) || Name <- ["dram_inputs.erl", "dram_rebar.erl"]],
    dram_rebar:main(Args, [Here | [Beams || Beams =/= none]]).

load(Here, Name, Beams) ->
    File = filename:join(Here, Name),
    {ok, Text} = file:read_file(File),
    Key = [Text, erlang:system_info(otp_release), erlang:system_info(version)],
    <<Number:128>> = erlang:md5(Key),
    Kept = filename:join(Beams, Name ++ "-" ++ integer_to_list(Number, 16)),
    Module = list_to_atom(filename:basename(Name, ".erl")),
    case Beams =/= none andalso file:read_file(Kept) of
        {ok, Beam} ->
            {module, Module} = code:load_binary(Module, File, Beam);
        _ ->
            {ok, Module, Beam} = compile:file(File, [binary, report_errors]),
            {module, Module} = code:load_binary(Module, File, Beam),
            Beams =/= none andalso keep(Kept, Beam)
    end.

keep(Kept, Beam) ->
    Half = Kept ++ "." ++ os:getpid(),
    ok = filelib:ensure_dir(Kept),
    ok = file:write_file(Half, Beam),
    ok = file:rename(Half, Kept).
