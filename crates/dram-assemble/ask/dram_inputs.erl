%% Determines the inputs of an evaluated program by tracing its calls.
%%
%% `start/0` traces the calling process and every process that is spawned from then on.
%% `stop/1` ends the tracing and returns a map:
%%
%%   files       [Path]            regular files whose content was read
%%   dirs        [Path]            directories whose names were listed
%%   stats       [{Path, Kind}]    of the rest, only this was asked, or could be answered;
%%                                 Kind: absent | regular | directory | other
%%   env         #{Name => Sha256 | absent}   variables, as they were before the evaluation
%%   whole_env   boolean           the environment was read as a whole
%%   uncacheable [{command, Text} | {socket, Text}]   where the answer may come from elsewhere
%%   volatile    [clock | random | crypto]  what differs from one moment to the next;
%%                                 crypto: it was used, be it for random bytes or not
%%   written     [Path]            files and directories made, changed or removed
%%
%% All lists are sorted; all paths are absolute binaries, not otherwise normalised.
%% A variable or file that the program itself set or wrote before it read it is not an
%% input. Of a file's status only the kind is an input: a program that depends on
%% modification times is not detected.
-module(dram_inputs).
-export([start/0, stop/1, path/1]).

start() ->
    Known = maps:from_list([split(Entry) || Entry <- os:getenv()]),
    {ok, Cwd} = file:get_cwd(),
    Tracer = spawn(fun() -> collect(#{cwd => Cwd, known => Known}) end),
    put(?MODULE, Tracer),
    %% Not crypto, which takes longer to load than all of the rest.
    [code:ensure_loaded(Module) || Module <- [file, prim_file, erl_prim_loader, os, rand]],
    put({?MODULE, crypto}, code:is_loaded(crypto) =/= false),
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
        {Ref, Seen0} ->
            demonitor(Ref, [flush]),
            Crypto = not erase({?MODULE, crypto}) andalso code:is_loaded(crypto) =/= false,
            Seen = case Crypto of
                       true -> Seen0#{{volatile, crypto} => true};
                       false -> Seen0
                   end,
            answer(Seen, [parts(S) || S <- Skip]);
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

%% ---- traced functions ----

%% Every function here reads or changes external state. The modules `file`, `prim_file`
%% and `erl_prim_loader` have functions for the same operations.
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
         {rand, seed, 1}, {rand, seed_s, 1}].

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
event(rand, F, [Seed], Caller, Seen) ->
    %% rand seeds itself on first use; an explicit seed is deterministic.
    case {F, Seed, Caller} of
        {seed_s, _, {rand, seed, 1}} -> Seen;
        {_, {_, _}, _} -> Seen;
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

%% A port program or a socket driver. Other drivers and descriptors read no input.
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

%% Compilers, loggers and random seeds read the clock, and no result depends on it.
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
digest(Value) -> sha256(unicode:characters_to_binary(Value)).

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

%% ---- SHA-256 ----

%% For short texts only, so that crypto need not be loaded.
sha256(Text) ->
    Size = byte_size(Text),
    Zeros = (119 - Size rem 64) rem 64,
    blocks(<<Text/binary, 16#80, 0:(Zeros * 8), (Size * 8):64>>,
           {16#6a09e667, 16#bb67ae85, 16#3c6ef372, 16#a54ff53a,
            16#510e527f, 16#9b05688c, 16#1f83d9ab, 16#5be0cd19}).

blocks(<<Block:64/binary, Rest/binary>>, Start) ->
    Words = schedule(16, maps:from_list(
                           lists:zip(lists:seq(0, 15), [W || <<W:32>> <= Block]))),
    End = rounds(constants(), 0, Words, Start),
    Sums = [add(X, Y) || {X, Y} <- lists:zip(tuple_to_list(Start), tuple_to_list(End))],
    blocks(Rest, list_to_tuple(Sums));
blocks(<<>>, State) -> << <<Word:32>> || Word <- tuple_to_list(State) >>.

schedule(64, Words) -> Words;
schedule(N, Words) ->
    A = map_get(N - 15, Words),
    B = map_get(N - 2, Words),
    S0 = turn(A, 7) bxor turn(A, 18) bxor (A bsr 3),
    S1 = turn(B, 17) bxor turn(B, 19) bxor (B bsr 10),
    schedule(N + 1, Words#{N => add(add(map_get(N - 16, Words), S0), add(map_get(N - 7, Words), S1))}).

rounds([K | Ks], N, Words, {A, B, C, D, E, F, G, H}) ->
    S1 = turn(E, 6) bxor turn(E, 11) bxor turn(E, 25),
    Choice = (E band F) bxor ((bnot E) band G),
    T1 = H + S1 + Choice + K + map_get(N, Words),
    S0 = turn(A, 2) bxor turn(A, 13) bxor turn(A, 22),
    Most = (A band B) bxor (A band C) bxor (B band C),
    rounds(Ks, N + 1, Words, {add(T1, S0 + Most), A, B, C, add(D, T1), E, F, G});
rounds([], _, _, State) -> State.

turn(Word, By) -> ((Word bsr By) bor (Word bsl (32 - By))) band 16#ffffffff.

add(X, Y) -> (X + Y) band 16#ffffffff.

%% The first 32 bits of the fractions of the first 64 primes' cube roots.
constants() ->
    [16#428a2f98, 16#71374491, 16#b5c0fbcf, 16#e9b5dba5, 16#3956c25b, 16#59f111f1, 16#923f82a4, 16#ab1c5ed5,
     16#d807aa98, 16#12835b01, 16#243185be, 16#550c7dc3, 16#72be5d74, 16#80deb1fe, 16#9bdc06a7, 16#c19bf174,
     16#e49b69c1, 16#efbe4786, 16#0fc19dc6, 16#240ca1cc, 16#2de92c6f, 16#4a7484aa, 16#5cb0a9dc, 16#76f988da,
     16#983e5152, 16#a831c66d, 16#b00327c8, 16#bf597fc7, 16#c6e00bf3, 16#d5a79147, 16#06ca6351, 16#14292967,
     16#27b70a85, 16#2e1b2138, 16#4d2c6dfc, 16#53380d13, 16#650a7354, 16#766a0abb, 16#81c2c92e, 16#92722c85,
     16#a2bfe8a1, 16#a81a664b, 16#c24b8b70, 16#c76c51a3, 16#d192e819, 16#d6990624, 16#f40e3585, 16#106aa070,
     16#19a4c116, 16#1e376c08, 16#2748774c, 16#34b0bcb5, 16#391c0cb3, 16#4ed8aa4a, 16#5b9cca4f, 16#682e6ff3,
     16#748f82ee, 16#78a5636f, 16#84c87814, 16#8cc70208, 16#90befffa, 16#a4506ceb, 16#bef9a3f7, 16#c67178f2].
