/* SPDX-License-Identifier: BSD-3-Clause */
/* keyval: text becomes the JSON tree that it says, or an error. */
#include <string.h>

#include "system/keyval.h"

/* @text must become @json. */
static void check_tree(const char *text, const char *implied_key, const char *json)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) expected = json_from_string(json, NULL);
    g_autoptr(JsonNode) tree = NULL;
    JsonObject *object;
    bool help;

    object = keyval_or_json_parse(text, implied_key, &help, &error);
    g_assert_no_error(error);
    g_assert_false(help);
    tree = json_node_init_object(json_node_alloc(), object);
    json_object_unref(object);
    if (!json_node_equal(tree, expected)) {
        g_autofree char *found = json_to_string(tree, FALSE);

        g_test_message("%s gives %s", text, found);
        g_test_fail();
    }
}

/* @text must be refused with a message that has @words in it. */
static void check_error(const char *text, const char *implied_key, const char *words)
{
    g_autoptr(GError) error = NULL;
    bool help;

    g_assert_null(keyval_or_json_parse(text, implied_key, &help, &error));
    g_assert_nonnull(error);
    if (!strstr(error->message, words)) {
        g_test_message("%s: '%s' lacks '%s'", text, error->message, words);
        g_test_fail();
    }
}

static void values_are_strings(void)
{
    check_tree("", NULL, "{}");
    check_tree("a=1", NULL, "{'a':'1'}");
    check_tree("a=,b=x=y,c-d_e=on", NULL, "{'a':'','b':'x=y','c-d_e':'on'}");
    check_tree("a=1,", NULL, "{'a':'1'}");
}

static void double_comma_is_a_comma(void)
{
    check_tree("a=x,,y,b=1", NULL, "{'a':'x,y','b':'1'}");
    check_tree("a=,,", NULL, "{'a':','}");
    check_tree("a=,,,b=1", NULL, "{'a':',','b':'1'}");
}

static void first_value_may_lack_its_key(void)
{
    check_tree("svq", "driver", "{'driver':'svq'}");
    check_tree("svq,id=n", "driver", "{'driver':'svq','id':'n'}");
    check_tree("id=n,driver=svq", "driver", "{'driver':'svq','id':'n'}");
    check_error("id=n,svq", "driver", "'svq' has no value");
    check_error("svq", NULL, "'svq' has no value");
}

static void last_of_equal_keys_wins(void)
{
    check_tree("a=1,b=2,a=3", NULL, "{'a':'3','b':'2'}");
    check_tree("svq,driver=x", "driver", "{'driver':'x'}");
    check_tree("a.0=1,a.0=2", NULL, "{'a':['2']}");
}

static void dots_make_objects_and_lists(void)
{
    check_tree("a.b=1,a.c.d=2", NULL, "{'a':{'b':'1','c':{'d':'2'}}}");
    check_tree("a.0=x,a.1=y", NULL, "{'a':['x','y']}");
    check_tree("a.1=y,a.0=x", NULL, "{'a':['x','y']}");
    check_tree("m.0.t=io0,m.0.v.0=0,m.0.v.1=2,m.1.t=io1", NULL,
               "{'m':[{'t':'io0','v':['0','2']},{'t':'io1'}]}");
    check_tree("m.0.0=x,m.0.1=y", NULL, "{'m':[['x','y']]}");
}

static void lists_have_no_holes(void)
{
    check_error("a.1=x", NULL, "'a.0' is missing");
    check_error("a.0=x,a.2=y", NULL, "'a.1' is missing");
    check_error("a.b.0=x,a.b.4000000000=y", NULL, "'a.b.1' is missing");
    check_error("a.00=x", NULL, "'a.0' is missing");
    check_error("a.0=x,a.b=y", NULL, "both numbers and names");
}

static void a_key_has_one_meaning(void)
{
    check_error("a=1,a.b=2", NULL, "has a value already");
    check_error("a.b=1,a=2", NULL, "use one or the other");
}

static void keys_are_names(void)
{
    g_autofree char *deep = g_strnfill(200000, 'a');

    check_error("=x", NULL, "empty key");
    check_error("a=1,=x", NULL, "empty key");
    check_error(".a=1", NULL, "not a key");
    check_error("a.=1", NULL, "not a key");
    check_error("a..b=1", NULL, "not a key");
    check_error("0=x", NULL, "not a key");
    check_error("-a=x", NULL, "not a key");
    check_error("a b=x", NULL, "not a key");
    check_error("a.0x=1", NULL, "not a key");

    for (size_t i = 1; i < 200000 - 2; i += 2) {
        deep[i] = '.';
    }
    deep[200000 - 2] = '=';
    check_error(deep, NULL, "longer than");
}

static void help_is_told(void)
{
    static const char *const texts[] = { "help", "?", "svq,help", "svq,help,id=x", "help,id=x" };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(JsonObject) object = NULL;
        bool help = false;

        object = keyval_parse(texts[i], "driver", &help, NULL);
        g_assert_nonnull(object);
        g_assert_true(help);
    }
    check_tree("driver=help,x=?", "driver", "{'driver':'help','x':'?'}");
}

static void json_is_taken_as_it_is(void)
{
    check_tree("{\"driver\":\"svq\",\"n\":3,\"l\":[1,{\"a\":true}]}", "driver",
               "{'driver':'svq','n':3,'l':[1,{'a':true}]}");
    check_error("{\"driver\":", "driver", "not JSON");
    check_error("{\"driver\":\"svq\"} x", "driver", "not JSON");
    check_error("{", "driver", "not JSON");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keyval/values-are-strings", values_are_strings);
    g_test_add_func("/keyval/double-comma-is-a-comma", double_comma_is_a_comma);
    g_test_add_func("/keyval/first-value-may-lack-its-key", first_value_may_lack_its_key);
    g_test_add_func("/keyval/last-of-equal-keys-wins", last_of_equal_keys_wins);
    g_test_add_func("/keyval/dots-make-objects-and-lists", dots_make_objects_and_lists);
    g_test_add_func("/keyval/lists-have-no-holes", lists_have_no_holes);
    g_test_add_func("/keyval/a-key-has-one-meaning", a_key_has_one_meaning);
    g_test_add_func("/keyval/keys-are-names", keys_are_names);
    g_test_add_func("/keyval/help-is-told", help_is_told);
    g_test_add_func("/keyval/json-is-taken-as-it-is", json_is_taken_as_it_is);
    return g_test_run();
}
