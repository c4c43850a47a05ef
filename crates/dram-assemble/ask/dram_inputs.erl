%% What a program read while it was evaluated, found by tracing the calls it made.
%%
%% `start/0` watches the calling process and every process that comes into being
%% from then on. `stop/1` ends that and answers with a map:
%%
%%   files       [Path]            regular files whose content was read
%%   dirs        [Path]            directories whose names were listed
%%   stats       [{Path, Kind}]    of the rest, only this was asked, or could be answered;
%%                                 Kind: absent | regular | directory | other
%%   env         #{Name => Sha256 | absent}   variables, as they were before the evaluation
%%   whole_env   boolean           the environment was read as a whole
%%   uncacheable [{command, Text} | {socket, Text}]   where the answer may come from elsewhere
%%   volatile    [clock | random]  what differs from one moment to the next
%%   written     [Path]            files and directories made, changed or removed
%%
%% All lists are sorted; all paths are absolute binaries, not otherwise normalised.
%% A variable or file that the program itself had set or written before it read it is
%% not an input. A file's status is an input only as far as its kind: a program that
%% looks at the time a file was changed is not found out.
-module(dram_inputs).
-export([start/0, stop/1, path/1]).

start() ->
    Known = maps:from_list([split(Entry) || Entry <- os:getenv()]),
    {ok, Cwd} = file:get_cwd(),
    Tracer = spawn(fun() -> collect(#{cwd => Cwd, known => Known}) end),
    put(?MODULE, Tracer),
    [code:ensure_loaded(Module) || Module <- [file, prim_file, erl_prim_loader, os, rand, crypto]],
    lists:foreach(fun watch/1, watched()),
    Flags = [call, {tracer, Tracer}],
    erlang:trace(new_processes, true, Flags),
    erlang:trace(self(), true, Flags),
    ok.

%% Skip: directories of which nothing is an input.
stop(Skip) ->
    erlang:trace(self(), false, [call]),
    erlang:trace(new_processes, false, [call]),
    Delivered = erlang:trace_delivered(all),
    receive {trace_delivered, all, Delivered} -> ok end,
    Tracer = erase(?MODULE),
    Ref = monitor(process, Tracer),
    Tracer ! {stop, self(), Ref},
    receive
        {Ref, Seen} -> demonitor(Ref, [flush]), answer(Seen, [parts(S) || S <- Skip]);
        {'DOWN', Ref, process, Tracer, Why} -> exit({dram_inputs, Why})
    end.

%% A file name of any form as an absolute binary.
path(Name) -> path(Name, element(2, file:get_cwd())).

path(Name, Cwd) ->
    Flat = if is_binary(Name) -> Name;
              is_atom(Name) -> atom_to_list(Name);
              true -> lists:flatten(Name)
           end,
    case filename:absname(Flat, Cwd) of
        Binary when is_binary(Binary) -> Binary;
        List -> unicode:characters_to_binary(List)
    end.

split(Entry) ->
    case string:split(Entry, "=") of
        [Name, Value] when Name =/= "" -> {Name, Value};
        _ -> {Entry, ""}
    end.

%% ---- what is watched ----

%% Every function here either reads something from outside or changes it. The modules
%% `file`, `prim_file` and `erl_prim_loader` have their names for the same things.
watched() ->
    Files = [{M, F, A} || M <- [file, prim_file, erl_prim_loader],
                          {F, A} <- [{read_file, 1}, {read_file, 2}, {open, 2}, {get_file, 1},
                                     {list_dir, 1}, {list_dir_all, 1},
                                     {read_file_info, 1}, {read_file_info, 2},
                                     {read_link_info, 1}, {read_link_info, 2},
                                     {read_link, 1}, {read_link_all, 1}, {set_cwd, 1},
                                     {write_file, 2}, {write_file, 3}, {copy, 2}, {copy, 3},
                                     {rename, 2}, {delete, 1}, {delete, 2}, {make_dir, 1},
                                     {del_dir, 1}, {del_dir_r, 1}, {make_link, 2},
                                     {make_symlink, 2}, {write_file_info, 2},
                                     {write_file_info, 3}]],
    Files ++
        [{os, getenv, 0}, {os, getenv, 1}, {os, getenv, 2}, {os, env, 0},
         {os, putenv, 2}, {os, unsetenv, 1}, {os, cmd, 1}, {os, cmd, 2},
         {erlang, open_port, 2}, {prim_socket, open, '_'},
         {os, system_time, 0}, {os, system_time, 1}, {os, timestamp, 0},
         {erlang, system_time, 0}, {erlang, system_time, 1}, {erlang, timestamp, 0},
         {erlang, now, 0}, {erlang, date, 0}, {erlang, time, 0},
         {erlang, localtime, 0}, {erlang, universaltime, 0},
         {rand, seed, 1}, {rand, seed_s, 1},
         {crypto, strong_rand_bytes, 1}, {crypto, rand_seed, 0}, {crypto, rand_uniform, 2}].

watch(Mfa) ->
    erlang:trace_pattern(Mfa, [{'_', [], [{message, {caller}}]}], [local]).

%% ---- collecting ----

collect(Seen) ->
    receive
        {trace, _, call, {M, F, Args}, Caller} ->
            collect(try event(M, F, Args, Caller, Seen) catch _:_ -> Seen end);
        {stop, From, Ref} ->
            From ! {Ref, Seen};
        _ ->
            collect(Seen)
    end.

event(os, F, [], _, Seen) when F =:= getenv; F =:= env ->
    Seen#{whole_env => true};
event(os, getenv, [Name | _], _, Seen) ->
    Key = name(Name),
    case Seen of
        #{{own, Key} := _} -> Seen;
        #{known := Known} -> Seen#{{env, Key} => maps:get(Key, Known, absent)}
    end;
event(os, putenv, [Name, _], _, Seen) -> Seen#{{own, name(Name)} => true};
event(os, unsetenv, [Name], _, Seen) -> Seen#{{own, name(Name)} => true};
event(os, cmd, [Command | _], _, Seen) ->
    Seen#{{uncacheable, {command, text(Command)}} => true};
event(erlang, open_port, [Name, Options], Caller, Seen) ->
    port(Name, Options, Caller, Seen);
event(prim_socket, open, _, _, Seen) ->
    Seen#{{uncacheable, {socket, <<"socket">>}} => true};
event(M, F, _, Caller, Seen) when M =:= rand; M =:= crypto ->
    %% rand seeds itself on first use; what was seeded by hand is not random.
    case {M, F, Caller} of
        {rand, seed_s, {rand, seed, 1}} -> Seen;
        _ -> Seen#{{volatile, random} => true}
    end;
event(M, F, Args, Caller, Seen) when M =:= erlang; M =:= os ->
    clock(F, Args, Caller, Seen);
event(_, set_cwd, [Dir], _, #{cwd := Cwd} = Seen) ->
    Seen#{cwd := unicode:characters_to_list(path(Dir, Cwd))};
event(_, open, [Name, Modes], _, Seen) when is_list(Modes) ->
    Writes = lists:any(fun(Mode) -> lists:member(Mode, Modes) end, [write, append, exclusive]),
    case Writes of
        true -> written(Name, Seen);
        false -> file(read, Name, Seen)
    end;
event(_, F, [From, To | _], _, Seen) when F =:= copy -> written(To, file(read, From, Seen));
event(_, F, [From, To], _, Seen) when F =:= rename -> written(From, written(To, Seen));
event(_, F, [_, New], _, Seen) when F =:= make_link; F =:= make_symlink -> written(New, Seen);
event(_, F, [Name | _], _, Seen) when F =:= read_file; F =:= get_file; F =:= open ->
    file(read, Name, Seen);
event(_, F, [Name | _], _, Seen) when F =:= list_dir; F =:= list_dir_all ->
    file(list, Name, Seen);
event(_, F, [Name | _], _, Seen)
  when F =:= read_file_info; F =:= read_link_info; F =:= read_link; F =:= read_link_all ->
    file(stat, Name, Seen);
event(_, _, [Name | _], _, Seen) ->
    written(Name, Seen).

name(Name) when is_list(Name) -> Name;
name(Name) -> unicode:characters_to_list(Name).

file(_, Handle, Seen) when is_tuple(Handle); is_pid(Handle) -> Seen;
file(How, Name, #{cwd := Cwd} = Seen) ->
    Path = path(Name, Cwd),
    case Seen of
        #{{written, Path} := _} -> Seen;
        _ -> Seen#{{How, Path} => true}
    end.

written(Handle, Seen) when is_tuple(Handle); is_pid(Handle) -> Seen;
written(Name, #{cwd := Cwd} = Seen) -> Seen#{{written, path(Name, Cwd)} => true}.

%% A program, or a driver that is a socket. Other drivers and descriptors bring nothing in.
port({spawn_driver, Driver}, _, _, Seen) ->
    case lists:suffix("_inet", Name = name(Driver)) of
        true -> Seen#{{uncacheable, {socket, text(Name)}} => true};
        false -> Seen
    end;
port(_, _, {os, _, _}, Seen) -> Seen;   % os:cmd, which has the command itself
port({spawn, Command}, _, _, Seen) ->
    case name(Command) of
        "/bin/sh -s unix:cmd" ++ _ -> Seen;
        "sh -s unix:cmd" ++ _ -> Seen;
        _ -> Seen#{{uncacheable, {command, text(Command)}} => true}
    end;
port({spawn_executable, File}, Options, _, Seen) ->
    Args = proplists:get_value(args, Options, []),
    Words = [filename:basename(text(File)) | [text(Arg) || Arg <- Args]],
    case Words of
        [<<"sh">>, <<"-s">>, <<"unix:cmd">> | _] -> Seen;
        _ -> Seen#{{uncacheable, {command, iolist_to_binary(lists:join($\s, Words))}} => true}
    end;
port(_, _, _, Seen) -> Seen.

%% Compilers, loggers and random seeds look at the clock and no result depends on it.
clock(_, _, {Module, _, _}, Seen) ->
    case atom_to_list(Module) of
        "Elixir.Mix." ++ _ -> Seen;
        "Elixir.Module" ++ _ -> Seen;
        "Elixir.Code" ++ _ -> Seen;
        "Elixir.Kernel." ++ _ -> Seen;
        "elixir" ++ _ -> Seen;
        "logger" ++ _ -> Seen;
        "rand" -> Seen;
        _ -> Seen#{{volatile, clock} => true}
    end;
clock(_, _, _, Seen) -> Seen#{{volatile, clock} => true}.

text(Text) when is_atom(Text) -> atom_to_binary(Text, utf8);
text(Text) when is_binary(Text) -> Text;
text(Text) ->
    case unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> iolist_to_binary(io_lib:format("~p", [Text]))
    end.

%% ---- answering ----

answer(Seen, Skip) ->
    Keep = fun(Path) -> not skipped(parts(Path), Skip) end,
    Of = fun(How) -> lists:sort([Path || {H, Path} <- maps:keys(Seen), H =:= How, Keep(Path)]) end,
    {Files, NotFiles} = lists:partition(fun(Path) -> kind(Path) =:= regular end, Of(read)),
    {Dirs, NotDirs} = lists:partition(fun(Path) -> kind(Path) =:= directory end, Of(list)),
    Stats = lists:usort(Of(stat) ++ NotFiles ++ NotDirs) -- (Files ++ Dirs),
    Env = maps:from_list([{unicode:characters_to_binary(Name), digest(Value)}
                          || {{env, Name}, Value} <- maps:to_list(Seen)]),
    #{files => Files,
      dirs => Dirs,
      stats => [{Path, kind(Path)} || Path <- Stats],
      env => Env,
      whole_env => maps:is_key(whole_env, Seen),
      uncacheable => lists:sort([Why || {uncacheable, Why} <- maps:keys(Seen)]),
      volatile => lists:sort([What || {volatile, What} <- maps:keys(Seen)]),
      written => Of(written)}.

digest(absent) -> absent;
digest(Value) -> crypto:hash(sha256, unicode:characters_to_binary(Value)).

kind(Path) ->
    case file:read_file_info(Path, [raw, {time, posix}]) of
        {ok, Info} when element(3, Info) =:= regular -> regular;
        {ok, Info} when element(3, Info) =:= directory -> directory;
        {ok, _} -> other;
        {error, _} -> absent
    end.

%% Loaded code is known by the versions of Erlang, Elixir and the compiled project.
skipped(Parts, Skip) ->
    lists:any(fun(Prefix) -> lists:prefix(Prefix, Parts) end, Skip)
        orelse code(lists:reverse(Parts)).

code([File, Dir | _]) when Dir =:= <<"ebin">>; Dir =:= <<"consolidated">> ->
    lists:member(filename:extension(File), [<<".beam">>, <<".bundle">>]);
code(_) -> false.

%% A path's parts, with `.` and `..` taken away.
parts(Path) ->
    lists:reverse(lists:foldl(fun(<<".">>, Acc) -> Acc;
                                 (<<"..">>, [_, Up | Rest]) -> [Up | Rest];
                                 (Part, Acc) -> [Part | Acc]
                              end, [], filename:split(path(Path)))).
