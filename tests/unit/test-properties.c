/* SPDX-License-Identifier: BSD-3-Clause */
/* Properties: values go where the table says, in either spelling; all others are refused. */
#include <string.h>

#include "system/properties.h"

typedef struct Sample {
    const char *text;
    bool flag;
    int64_t number;
    OnOffAuto choice;
    JsonArray *list;
} Sample;

static const Property sample_properties[] = {
    PROPERTY_STRING("text", Sample, text, ""),
    PROPERTY_BOOL("flag", Sample, flag, ""),
    PROPERTY_INT("number", Sample, number, -5, 300, ""),
    PROPERTY_ON_OFF_AUTO("choice", Sample, choice, ""),
    PROPERTY_LIST("list", Sample, list, ""),
    PROPERTY_END,
};

static const Property int64_properties[] = {
    PROPERTY_INT("number", Sample, number, INT64_MIN, INT64_MAX, ""),
    PROPERTY_END,
};

/* Reads @json; NULL: it was refused with a message that has @words in it. */
static JsonNode *read_sample(const Property *table, const char *json, Sample *sample,
                             const char *words)
{
    g_autoptr(GError) error = NULL;
    JsonNode *tree = json_from_string(json, NULL);

    if (properties_read(table, json_node_get_object(tree), sample, &error)) {
        return tree;
    }
    g_assert_nonnull(words);
    g_assert_nonnull(strstr(error->message, words));
    json_node_unref(tree);
    return NULL;
}

static void check_refused(const char *json, const char *words)
{
    Sample sample = { 0 };

    g_test_message("%s", json);
    g_assert_null(read_sample(sample_properties, json, &sample, words));
}

static void absent_members_keep_defaults(void)
{
    Sample sample = { .number = 7, .choice = ON_OFF_AUTO_OFF };
    g_autoptr(JsonNode) tree = read_sample(sample_properties, "{'text':'x'}", &sample, NULL);

    g_assert_nonnull(tree);
    g_assert_cmpstr(sample.text, ==, "x");
    g_assert_cmpint(sample.number, ==, 7);
    g_assert_cmpint(sample.choice, ==, ON_OFF_AUTO_OFF);
    g_assert_null(sample.list);
}

static void both_spellings_are_read(void)
{
    static const char *const spellings[] = {
        "{'text':'x','flag':true,'number':200,'choice':false,'list':[1,2]}",
        "{'text':'x','flag':'on','number':'200','choice':'off','list':['1','2']}",
        "{'text':'x','flag':'yes','number':'0xc8','choice':'no','list':['1',2]}",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(spellings); i++) {
        Sample sample = { 0 };
        g_autoptr(JsonNode) tree = read_sample(sample_properties, spellings[i], &sample, NULL);

        g_assert_nonnull(tree);
        g_assert_cmpstr(sample.text, ==, "x");
        g_assert_true(sample.flag);
        g_assert_cmpint(sample.number, ==, 200);
        g_assert_cmpint(sample.choice, ==, ON_OFF_AUTO_OFF);
        g_assert_cmpuint(json_array_get_length(sample.list), ==, 2);
    }
}

static void numbers_are_decimal_or_hexadecimal(void)
{
    static const struct {
        const char *json;
        int64_t value;
    } cases[] = {
        { "{'number':'010'}", 10 },
        { "{'number':'0x10'}", 16 },
        { "{'number':'-0x10'}", -16 },
        { "{'number':'9223372036854775807'}", INT64_MAX },
        { "{'number':'-9223372036854775808'}", INT64_MIN },
    };
    static const char *const wrong[] = {
        "''", "' 1'", "'1 '", "'+1'", "'--1'", "'- 1'", "'1k'", "'0x'", "'1.0'", "1.0", "true",
        "null", "[1]", "{}", "'9223372036854775808'", "'99999999999999999999'",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Sample sample = { 0 };
        g_autoptr(JsonNode) tree = read_sample(int64_properties, cases[i].json, &sample, NULL);

        g_assert_nonnull(tree);
        g_assert_cmpint(sample.number, ==, cases[i].value);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *json = g_strdup_printf("{'number':%s}", wrong[i]);
        Sample sample = { 0 };

        g_test_message("%s", json);
        g_assert_null(read_sample(int64_properties, json, &sample, "must be a number"));
    }
}

static void ranges_are_kept(void)
{
    Sample sample = { 0 };
    g_autoptr(JsonNode) low = read_sample(sample_properties, "{'number':-5}", &sample, NULL);
    g_autoptr(JsonNode) high = read_sample(sample_properties, "{'number':'300'}", &sample, NULL);

    g_assert_nonnull(low);
    g_assert_nonnull(high);
    g_assert_cmpint(sample.number, ==, 300);
    check_refused("{'number':-6}", "'number' cannot be '-6': it must be a number from -5 to 300");
    check_refused("{'number':'301'}", "from -5 to 300");
}

static void other_types_are_refused(void)
{
    check_refused("{'text':1}", "'text' cannot be '1'");
    check_refused("{'text':''}", "'text' cannot be ''");
    check_refused("{'text':['x']}", "'text' cannot be '[\"x\"]'");
    check_refused("{'flag':1}", "on or off");
    check_refused("{'flag':'auto'}", "on or off");
    check_refused("{'flag':'ON'}", "on or off");
    check_refused("{'choice':'maybe'}", "auto, on or off");
    check_refused("{'choice':null}", "auto, on or off");
    check_refused("{'list':'x'}", "a list");
    check_refused("{'list':{'a':'x'}}", "a list");
}

static void unknown_members_are_refused(void)
{
    check_refused("{'text':'x','txet':'y'}",
                  "there is no property 'txet' (have: text, flag, number, choice, list)");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/properties/absent-members-keep-defaults", absent_members_keep_defaults);
    g_test_add_func("/properties/both-spellings-are-read", both_spellings_are_read);
    g_test_add_func("/properties/numbers-are-decimal-or-hexadecimal",
                    numbers_are_decimal_or_hexadecimal);
    g_test_add_func("/properties/ranges-are-kept", ranges_are_kept);
    g_test_add_func("/properties/other-types-are-refused", other_types_are_refused);
    g_test_add_func("/properties/unknown-members-are-refused", unknown_members_are_refused);
    return g_test_run();
}
