/* One function from libm, so that the library has a dependency of its own. */
#include <erl_nif.h>
#include <math.h>

static ERL_NIF_TERM nif_cbrt(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    double x;
    (void)argc;
    if (!enif_get_double(env, argv[0], &x))
        return enif_make_badarg(env);
    return enif_make_double(env, cbrt(x));
}

static ErlNifFunc functions[] = {{"cbrt", 1, nif_cbrt, 0}};

ERL_NIF_INIT(Elixir.Nif, functions, NULL, NULL, NULL, NULL)
