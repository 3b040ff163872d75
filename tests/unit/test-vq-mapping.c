/* SPDX-License-Identifier: BSD-3-Clause */
/* iothread-vq-mapping: each virtqueue has one IOThread, or the mapping is refused. */
#include <string.h>

#include "system/objects/vq-mapping.h"

/* @mapping must give @slots (ids with spaces between them) to a device of @queue_count. */
static void check_ctrl_slots(const char *mapping, unsigned int queue_count, bool has_ctrl,
                             const char *slots)
{
    g_autoptr(JsonNode) tree = json_from_string(mapping, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) found = NULL;
    g_autofree char *joined = NULL;

    found = vq_mapping_get_slots(json_node_get_array(tree), queue_count, has_ctrl, &error);
    g_assert_no_error(error);
    g_ptr_array_add(found, NULL);
    joined = g_strjoinv(" ", (char **)found->pdata);
    g_assert_cmpstr(joined, ==, slots);
}

static void check_slots(const char *mapping, unsigned int queue_count, const char *slots)
{
    check_ctrl_slots(mapping, queue_count, false, slots);
}

static void check_ctrl_refused(const char *mapping, unsigned int queue_count, bool has_ctrl,
                               const char *words)
{
    g_autoptr(JsonNode) tree = json_from_string(mapping, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_null(vq_mapping_get_slots(json_node_get_array(tree), queue_count, has_ctrl, &error));
    g_test_message("%s: %s", mapping, error->message);
    g_assert_nonnull(strstr(error->message, words));
}

static void check_refused(const char *mapping, unsigned int queue_count, const char *words)
{
    check_ctrl_refused(mapping, queue_count, false, words);
}

static void without_vqs_pairs_take_turns(void)
{
    check_slots("[{'iothread':'a'}]", 4, "a a");
    check_slots("[{'iothread':'a'},{'iothread':'b'}]", 4, "a a b b");
    check_slots("[{'iothread':'a'},{'iothread':'b'}]", 0, "a a b b");
}

static void vqs_say_it_all(void)
{
    check_slots("[{'iothread':'a','vqs':[0,2]},{'iothread':'b','vqs':[1,3]}]", 4, "a b a b");
    check_slots("[{'iothread':'a','vqs':['3']},{'iothread':'b','vqs':['0','1','2']}]", 0,
                "b b b a");
}

/* Left out, virtqueue 4 is that of slot 4 % 4. */
static void a_control_queue_may_be_left_out(void)
{
    check_ctrl_slots("[{'iothread':'a','vqs':[0,1]},{'iothread':'b','vqs':[2,3]}]", 5, true,
                     "a a b b");
    check_ctrl_slots("[{'iothread':'a','vqs':[0,1]},{'iothread':'b','vqs':[2,3,4]}]", 5, true,
                     "a a b b b");
    check_ctrl_slots("[{'iothread':'a'},{'iothread':'b'}]", 5, true, "a a b b");
    check_ctrl_refused("[{'iothread':'a','vqs':[0,1,2]}]", 5, true, "leaves out virtqueue 3");
    check_ctrl_refused("[{'iothread':'a','vqs':[0,1,2,4]}]", 5, true, "leaves out virtqueue 3");
    check_ctrl_refused("[{'iothread':'a','vqs':[0,1,2,3,5]}]", 5, true, "name 0 to 4");
    check_refused("[{'iothread':'a','vqs':[0,1,2,3]}]", 5, "leaves out virtqueue 4");
}

static void each_virtqueue_is_named_once(void)
{
    check_refused("[{'iothread':'a','vqs':[0,0]}]", 1, "virtqueue 0, which is assigned already");
    check_refused("[{'iothread':'a','vqs':[0]},{'iothread':'b','vqs':[1,0]}]", 2,
                  "'iothread-vq-mapping.1.vqs' names virtqueue 0, which is assigned already");
    check_refused("[{'iothread':'a','vqs':[0,1]}]", 4, "leaves out virtqueue 2");
    check_refused("[{'iothread':'a','vqs':[0,2]}]", 0, "leaves out virtqueue 1");
}

static void virtqueues_are_the_devices(void)
{
    check_refused("[{'iothread':'a','vqs':[0,1,2]}]", 2,
                  "names virtqueue 2, but the device has 2; name 0 to 1");
    check_refused("[{'iothread':'a','vqs':[256]}]", 0, "from 0 to 255");
    check_refused("[{'iothread':'a','vqs':[-1]}]", 0, "from 0 to 255");
    check_refused("[{'iothread':'a','vqs':[{}]}]", 0, "from 0 to 255");
}

static void entries_are_well_formed(void)
{
    check_refused("[]", 2, "is empty");
    check_refused("['a']", 2, "must be an object");
    check_refused("[{'vqs':[0]}]", 2, "'iothread-vq-mapping.0.iothread' is missing");
    check_refused("[{'iothread':'a','vq':[0]}]", 2, "there is no property 'vq'");
    check_refused("[{'iothread':'a','vqs':0}]", 2, "must be a list");
    check_refused("[{'iothread':'a','vqs':[]}]", 2, "'iothread-vq-mapping.0.vqs' is empty");
    check_refused("[{'iothread':'a'},{'iothread':'a'}]", 2, "names IOThread 'a' twice");
    check_refused("[{'iothread':'a','vqs':[0]},{'iothread':'b'}]", 2, "in some entries only");
    check_refused("[{'iothread':'a'},{'iothread':'b','vqs':[0]}]", 2, "in some entries only");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vq-mapping/without-vqs-pairs-take-turns", without_vqs_pairs_take_turns);
    g_test_add_func("/vq-mapping/vqs-say-it-all", vqs_say_it_all);
    g_test_add_func("/vq-mapping/a-control-queue-may-be-left-out", a_control_queue_may_be_left_out);
    g_test_add_func("/vq-mapping/each-virtqueue-is-named-once", each_virtqueue_is_named_once);
    g_test_add_func("/vq-mapping/virtqueues-are-the-devices", virtqueues_are_the_devices);
    g_test_add_func("/vq-mapping/entries-are-well-formed", entries_are_well_formed);
    return g_test_run();
}
