/* SPDX-License-Identifier: BSD-2-Clause
 * Endpoints, replies and notifications: messages, capabilities in them, and what callers meet when a
 * server, a caller or the endpoint itself goes away in the middle. */
#include <criterion/criterion.h>
#include "host_kernel.h"

static struct child server, client;
static handle_t endpoint, server_end, client_end; /* of the supervisor, the server, the client */

static void start(void)
{
    boot();
    endpoint = make(endpoint_create, 77);
    server = child_make(1);
    client = child_make(2);
    server_end = grant(&server, endpoint, RIGHT_READ, 0);
    client_end = grant(&client, endpoint, RIGHT_WRITE, 1234);
}

static void kill_child(struct child *c)
{
    run_as(root_thread());
    expect_ok(sys(process_kill, c->handle, CAUSE_KILLED));
}

static struct child next_server(handle_t *end)
{
    run_as(root_thread());
    struct child c = child_make(1);
    *end = grant(&c, endpoint, RIGHT_READ, 0);
    run_as(c.thread);
    return c;
}

/* The client calls while nobody receives, then the server takes the call. */
static void call_taken(uint64_t flags)
{
    run_as(client.thread);
    expect_state(sys(call, client_end, INFO_MAKE(5, 0) | flags, 1, 2, 3, 4, 5, 6, 7, 8), THREAD_SEND);
    run_as(server.thread);
    expect_ok(sys(recv, server_end));
}

TestSuite(ipc, .init = start);

Test(ipc, call_before_recv)
{
    run_as(client.thread);
    expect_state(sys(call, client_end, INFO_MAKE(5, 0), 1, 2, 3, 4, 5, 6, 7, 8), THREAD_SEND);
    run_as(server.thread);
    struct result r = sys(recv, server_end);
    expect_ok(r);
    cr_assert_eq(r.handle, 1234, "the badge");
    cr_assert_eq(r.info, INFO_MAKE(5, 0));
    for (unsigned i = 0; i < 8; i++) cr_assert_eq(r.w[i], i + 1);
    expect_ok(sys(reply, 0, INFO_MAKE(E_IO, 0), 11, 12, 13, 14, 15, 16, 17, 18));
    r = result_of(client.thread);
    cr_assert_eq(r.status, OK);
    cr_assert_eq(INFO_LABEL(r.info), E_IO);
    for (unsigned i = 0; i < 8; i++) cr_assert_eq(r.w[i], i + 11);
    cr_assert_eq(r.state, THREAD_READY);
}

Test(ipc, recv_before_call_and_reply_recv)
{
    run_as(server.thread);
    expect_state(sys(recv, server_end), THREAD_RECV);
    for (unsigned round = 0; round < 3; round++) {
        run_as(client.thread);
        expect_state(sys(call, client_end, INFO_MAKE(round, 0), round), THREAD_REPLY);
        run_as(server.thread);
        struct result r = result_of(server.thread);
        cr_assert_eq(r.status, OK);
        cr_assert_eq(r.w[0], round);
        expect_state(sys(reply_recv, server_end, INFO_MAKE(0, 0), round + 100), THREAD_RECV);
        cr_assert_eq(result_of(client.thread).w[0], round + 100);
    }
    run_as(root_thread());
    struct result r = sys(endpoint_info, endpoint);
    cr_assert_eq(r.w[0], 0);
    cr_assert_eq(r.w[1], 0);
    cr_assert_eq(r.w[2], 3);
    cr_assert_eq(r.w[3], 0);
}

Test(ipc, callers_are_served_in_order_and_counted)
{
    struct child other = child_make(3);
    handle_t other_end = grant(&other, endpoint, RIGHT_WRITE, 99);
    run_as(other.thread);
    sys(call, other_end, 0, 0);
    run_as(client.thread);
    sys(call, client_end, 0, 0);
    run_as(root_thread());
    cr_assert_eq(sys(endpoint_info, endpoint).w[0], 2);
    run_as(server.thread);
    cr_assert_eq(sys(recv, server_end).handle, 99);
    expect_status(sys(recv, server_end), E_STATE);
    cr_assert_eq(sys(reply_recv, server_end, 0).handle, 1234);
    run_as(root_thread());
    struct result r = sys(endpoint_info, endpoint);
    cr_assert_eq(r.w[0], 0);
    cr_assert_eq(r.w[1], 1);
    cr_assert_eq(r.w[2], 1);
}

Test(ipc, user_flags_do_not_reach_the_server)
{
    run_as(client.thread);
    sys(call, client_end, ~0ul & ~(7ul << 16), 1);
    run_as(server.thread);
    struct result r = sys(recv, server_end);
    cr_assert_eq(r.info, 0xffff);
    expect_ok(sys(reply, 0, ~0ul & ~(7ul << 16)));
    cr_assert_eq(result_of(client.thread).info, 0xffff);
}

Test(ipc, reply_without_a_caller)
{
    run_as(server.thread);
    expect_status(sys(reply, 0, 0), E_STATE);
    expect_status(sys(reply_save), E_STATE);
}

Test(ipc, recv_of_nothing)
{
    run_as(server.thread);
    expect_status(sys(recv, 0), E_ARGUMENT);
    expect_status(sys(reply_recv, 0), E_ARGUMENT);
}

/* --- Capabilities in messages ------------------------------------------------------------------------- */

Test(ipc, capabilities_travel_in_the_last_words)
{
    run_as(client.thread);
    handle_t n = make(notification_create, 0), m = make(memory_create, 0, 1, 0);
    sys(call, client_end, INFO_MAKE(1, 2), 1, 2, 3, 4, 5, 6, n, m);
    run_as(server.thread);
    struct result r = sys(recv, server_end);
    cr_assert_eq(INFO_CAPS(r.info), 2);
    cr_assert_eq(r.w[5], 6);
    cr_assert_eq(sys(cap_info, r.w[6]).w[0], OBJECT_NOTIFICATION);
    cr_assert_eq(sys(cap_info, r.w[7]).w[0], OBJECT_MEMORY);
    run_as(client.thread = thread_of(server.process)); /* the server goes on */
    handle_t back = make(endpoint_create, 0);
    expect_ok(sys(reply, 0, INFO_MAKE(0, 1), 0, 0, 0, 0, 0, 0, 0, back));
    struct result c = result_of(thread_of(client.process));
    cr_assert_eq(INFO_CAPS(c.info), 1);
    run_as(thread_of(client.process));
    cr_assert_eq(sys(cap_info, c.w[7]).w[0], OBJECT_ENDPOINT);
}

Test(ipc, what_may_not_be_granted_arrives_as_zero)
{
    run_as(client.thread);
    handle_t n = make(notification_create, 0);
    handle_t kept = make(cap_derive, n, RIGHT_WRITE, 0);
    sys(call, client_end, INFO_MAKE(1, 3), 1, 2, 3, 4, 5, kept, 0, n ^ 1ul << 20);
    run_as(server.thread);
    struct result r = sys(recv, server_end);
    cr_assert_eq(r.w[5], 0);
    cr_assert_eq(r.w[6], 0);
    cr_assert_eq(r.w[7], 0);
    cr_assert_eq(server.process->handle_count, 1);
}

Test(ipc, a_full_table_gets_zero_and_the_message)
{
    run_as(server.thread);
    while (sys(cap_derive, server_end, RIGHT_READ, 0).status == OK) {}
    run_as(client.thread);
    handle_t n = make(notification_create, 0);
    sys(call, client_end, INFO_MAKE(1, 1), 1, 2, 3, 4, 5, 6, 7, n);
    run_as(server.thread);
    struct result r = sys(recv, server_end);
    expect_ok(r);
    cr_assert_eq(r.w[0], 1);
    cr_assert_eq(r.w[7], 0);
    account_check(process_root);
}

/* --- Death of a server ------------------------------------------------------------------------------------ */

Test(ipc, a_replayable_call_goes_to_the_next_server)
{
    call_taken(INFO_REPLAYABLE);
    kill_child(&server);
    cr_assert_eq(result_of(client.thread).state, THREAD_SEND);
    handle_t end;
    struct child next = next_server(&end);
    struct result r = sys(recv, end);
    expect_ok(r);
    cr_assert_eq(r.info, INFO_MAKE(5, 0) | INFO_REPLAYED);
    cr_assert_eq(r.handle, 1234);
    for (unsigned i = 0; i < 8; i++) cr_assert_eq(r.w[i], i + 1, "word %u survives", i);
    expect_ok(sys(reply, 0, 0, 55));
    cr_assert_eq(result_of(client.thread).w[0], 55);
    cr_assert_eq(trace_count(TRACE_CALL_REPLAYED), 1);
    run_as(root_thread());
    cr_assert_eq(sys(endpoint_info, endpoint).w[3], 1);
    (void)next;
}

Test(ipc, a_replayed_call_is_first_in_the_queue)
{
    call_taken(INFO_REPLAYABLE);
    run_as(root_thread());
    struct child late = child_make(3);
    handle_t late_end = grant(&late, endpoint, RIGHT_WRITE, 2);
    run_as(late.thread);
    sys(call, late_end, 0, 0);
    kill_child(&server);
    handle_t end;
    next_server(&end);
    cr_assert_eq(sys(recv, end).handle, 1234);
    cr_assert_eq(sys(reply_recv, end, 0).handle, 2);
}

Test(ipc, a_waiting_server_gets_the_replayed_call_at_once)
{
    handle_t end;
    struct child standby = next_server(&end);
    call_taken(INFO_REPLAYABLE);
    run_as(standby.thread);
    expect_state(sys(recv, end), THREAD_RECV);
    kill_child(&server);
    struct result r = result_of(standby.thread);
    cr_assert_eq(r.state, THREAD_READY);
    cr_assert_eq(r.status, OK);
    cr_assert_eq(r.info, INFO_MAKE(5, 0) | INFO_REPLAYED);
    run_as(standby.thread);
    expect_ok(sys(reply, 0, 0));
}

Test(ipc, any_other_call_hears_of_the_restart)
{
    call_taken(0);
    kill_child(&server);
    struct result r = result_of(client.thread);
    cr_assert_eq(r.status, E_PEER_RESTARTED);
    cr_assert_eq(r.w[0], 1, "the new generation");
    cr_assert_eq(r.state, THREAD_READY);
    cr_assert_eq(trace_count(TRACE_PEER_RESTARTED), 1);
    run_as(root_thread());
    cr_assert_eq(sys(endpoint_info, endpoint).w[1], 0);
}

Test(ipc, queued_calls_do_not_notice_a_death)
{
    run_as(server.thread);
    expect_state(sys(recv, server_end), THREAD_RECV);
    kill_child(&server);
    run_as(client.thread);
    expect_state(sys(call, client_end, 0, 3), THREAD_SEND);
    handle_t end;
    next_server(&end);
    struct result r = sys(recv, end);
    cr_assert_eq(r.w[0], 3);
    cr_assert_eq(r.info & INFO_REPLAYED, 0);
}

Test(ipc, a_saved_call_is_replayed_at_the_servers_death)
{
    call_taken(INFO_REPLAYABLE);
    make(reply_save);
    expect_status(sys(reply, 0, 0), E_STATE);
    kill_child(&server);
    handle_t end;
    next_server(&end);
    cr_assert_eq(sys(recv, end).info, INFO_MAKE(5, 0) | INFO_REPLAYED);
    account_check(process_root);
}

Test(ipc, a_saved_call_is_answered_out_of_order)
{
    call_taken(0);
    handle_t saved = make(reply_save);
    run_as(root_thread());
    struct child other = child_make(3);
    handle_t other_end = grant(&other, endpoint, RIGHT_WRITE, 2);
    run_as(other.thread);
    sys(call, other_end, 0, 0);
    run_as(server.thread);
    cr_assert_eq(sys(recv, server_end).handle, 2);
    expect_ok(sys(reply_to, saved, INFO_MAKE(3, 0), 9));
    cr_assert_eq(result_of(client.thread).w[0], 9);
    expect_status(sys(reply_to, saved, 0), E_HANDLE);
    expect_ok(sys(reply, 0, 0));
    account_check(process_root);
}

Test(ipc, deleting_a_saved_call_fails_it)
{
    call_taken(0);
    handle_t saved = make(reply_save);
    expect_ok(sys(cap_delete, saved));
    cr_assert_eq(result_of(client.thread).status, E_PEER_RESTARTED);
}

Test(ipc, two_deaths_in_a_row)
{
    call_taken(INFO_REPLAYABLE);
    kill_child(&server);
    for (unsigned i = 0; i < 3; i++) {
        handle_t end;
        struct child next = next_server(&end);
        cr_assert_eq(sys(recv, end).handle, 1234);
        kill_child(&next);
        expect_ok(sys(process_destroy, next.handle));
    }
    cr_assert_eq(sys(endpoint_info, endpoint).w[3], 4);
    cr_assert_eq(sys(endpoint_info, endpoint).w[0], 1);
    account_check(process_root);
}

/* A process whose own thread serves another of its threads. */
Test(ipc, a_process_that_calls_itself_dies)
{
    handle_t both = grant(&client, endpoint, RIGHT_READ | RIGHT_WRITE, 0);
    for (unsigned order = 0; order < 2; order++) {
        run_as(root_thread());
        struct child c = child_make(4);
        both = grant(&c, endpoint, RIGHT_READ | RIGHT_WRITE, 0);
        run_as(c.thread);
        handle_t h = make(thread_create, 0, ELF_TEXT, USER_STACK_TOP, 0);
        struct thread *second = (struct thread *)object_at(c.process, h);
        struct thread *caller = order ? second : c.thread, *callee = order ? c.thread : second;
        run_as(caller);
        expect_state(sys(call, both, order ? INFO_REPLAYABLE : 0, 0), THREAD_SEND);
        run_as(callee);
        expect_ok(sys(recv, both));
        kill_child(&c);
        cr_assert_eq(sys(endpoint_info, endpoint).w[0], 0);
        cr_assert_eq(sys(endpoint_info, endpoint).w[1], 0);
        account_check(process_root);
    }
}

/* --- Death of a caller or of the endpoint -------------------------------------------------------------------- */

Test(ipc, a_dead_caller_is_forgotten)
{
    call_taken(0);
    kill_child(&client);
    run_as(server.thread);
    expect_status(sys(reply, 0, 0), E_STATE);
    run_as(root_thread());
    cr_assert_eq(sys(endpoint_info, endpoint).w[1], 0);
    account_check(process_root);
}

Test(ipc, a_dead_caller_leaves_the_queue)
{
    run_as(client.thread);
    sys(call, client_end, 0, 0);
    kill_child(&client);
    cr_assert_eq(sys(endpoint_info, endpoint).w[0], 0);
    run_as(server.thread);
    expect_state(sys(recv, server_end), THREAD_RECV);
}

Test(ipc, a_saved_caller_that_died_is_answered_in_vain)
{
    call_taken(0);
    handle_t saved = make(reply_save);
    kill_child(&client);
    expect_ok(sys(process_destroy, client.handle));
    run_as(server.thread);
    expect_ok(sys(reply_to, saved, 0));
    account_check(process_root);
}

Test(ipc, a_destroyed_endpoint_tells_everybody)
{
    call_taken(0);
    run_as(root_thread());
    struct child queued = child_make(3), taken = child_make(4);
    handle_t q = grant(&queued, endpoint, RIGHT_WRITE, 0), s = grant(&taken, endpoint, RIGHT_WRITE, 0);
    run_as(taken.thread);
    sys(call, s, 0, 0);
    run_as(server.thread);
    handle_t saved = make(reply_save);
    expect_ok(sys(recv, server_end));
    run_as(queued.thread);
    sys(call, q, 0, 0);
    run_as(root_thread());
    expect_ok(sys(cap_delete, endpoint));
    cr_assert_eq(result_of(client.thread).status, E_PEER_GONE);
    cr_assert_eq(result_of(taken.thread).status, E_PEER_GONE);
    cr_assert_eq(result_of(queued.thread).status, E_PEER_GONE);
    run_as(server.thread);
    expect_status(sys(reply, 0, 0), E_STATE);
    expect_ok(sys(reply_to, saved, 0));
    account_check(process_root);
}

Test(ipc, a_receiver_hears_of_the_destroyed_endpoint)
{
    run_as(server.thread);
    expect_state(sys(recv, server_end), THREAD_RECV);
    run_as(root_thread());
    expect_ok(sys(cap_delete, endpoint));
    cr_assert_eq(result_of(server.thread).status, E_PEER_GONE);
}

Test(ipc, an_endpoint_dies_with_its_owner)
{
    run_as(client.thread);
    handle_t own = make(endpoint_create, 0);
    expect_state(sys(recv, own), THREAD_RECV);
    kill_child(&client);
    account_check(process_root);
}

/* --- Notifications ---------------------------------------------------------------------------------------------- */

Test(ipc, signals_gather_until_taken)
{
    handle_t n = make(notification_create, 0);
    expect_status(sys(poll, n), E_WOULD_BLOCK);
    expect_ok(sys(signal, n, 1));
    expect_ok(sys(signal, n, 4));
    struct result r = sys(poll, n);
    cr_assert_eq(r.w[0], 5);
    expect_status(sys(poll, n), E_WOULD_BLOCK);
    expect_ok(sys(signal, n, 8));
    r = sys(wait, n);
    expect_ok(r);
    cr_assert_eq(r.w[0], 8);
}

Test(ipc, a_signal_wakes_one_waiter)
{
    handle_t n = make(notification_create, 0);
    handle_t a = grant(&server, n, RIGHT_READ, 0), b = grant(&client, n, RIGHT_READ, 0);
    run_as(server.thread);
    expect_state(sys(wait, a), THREAD_WAIT);
    run_as(client.thread);
    expect_state(sys(wait, b), THREAD_WAIT);
    run_as(root_thread());
    expect_ok(sys(signal, n, 0));
    cr_assert_eq(result_of(server.thread).state, THREAD_WAIT, "no bits, no wake");
    expect_ok(sys(signal, n, 6));
    struct result r = result_of(server.thread);
    cr_assert_eq(r.state, THREAD_READY);
    cr_assert_eq(r.status, OK);
    cr_assert_eq(r.w[0], 6);
    cr_assert_eq(result_of(client.thread).state, THREAD_WAIT);
}

Test(ipc, signal_and_wait_in_one)
{
    handle_t to = make(notification_create, 0), from = make(notification_create, 0);
    handle_t rung = grant(&server, to, RIGHT_READ, 0), bell = grant(&client, to, RIGHT_WRITE, 0);
    handle_t answered = grant(&client, from, RIGHT_READ, 0), mute = grant(&client, from, RIGHT_WRITE, 0);
    run_as(server.thread);
    expect_state(sys(wait, rung), THREAD_WAIT);
    run_as(client.thread);
    expect_status(sys(signal_wait, answered, 2, answered), E_RIGHTS);
    expect_status(sys(signal_wait, bell, 2, mute), E_RIGHTS);
    expect_status(sys(signal_wait, bell, 2, endpoint), E_HANDLE);
    cr_assert_eq(result_of(server.thread).state, THREAD_WAIT, "what is refused signals nobody");
    expect_state(sys(signal_wait, bell, 2, answered), THREAD_WAIT);
    struct result r = result_of(server.thread);
    cr_assert(r.status == OK && r.w[0] == 2);
    run_as(root_thread());
    expect_ok(sys(signal, from, 8));
    r = result_of(client.thread);
    cr_assert(r.status == OK && r.w[0] == 8 && r.state == THREAD_READY);
    expect_ok(sys(signal, from, 1));
    run_as(client.thread);
    r = sys(signal_wait, bell, 4, answered);
    expect_ok(r);
    cr_assert_eq(r.w[0], 1, "what is there already is taken at once");
    run_as(root_thread());
    cr_assert_eq(sys(poll, to).w[0], 4);
    r = sys(signal_wait, to, 16, to);
    expect_ok(r);
    cr_assert_eq(r.w[0], 16, "a thread may signal itself");
}

Test(ipc, rights_of_notifications)
{
    handle_t n = make(notification_create, 0);
    handle_t r = make(cap_derive, n, RIGHT_READ, 0), w = make(cap_derive, n, RIGHT_WRITE, 0);
    expect_status(sys(signal, r, 1), E_RIGHTS);
    expect_status(sys(poll, w), E_RIGHTS);
    expect_status(sys(wait, w), E_RIGHTS);
    expect_status(sys(bind, w), E_RIGHTS);
}

Test(ipc, a_bound_notification_interrupts_recv)
{
    handle_t n = make(notification_create, 0), theirs = grant(&server, n, RIGHT_READ, 0);
    run_as(server.thread);
    expect_ok(sys(bind, theirs));
    expect_state(sys(recv, server_end), THREAD_RECV);
    run_as(root_thread());
    expect_ok(sys(signal, n, 3));
    struct result r = result_of(server.thread);
    cr_assert_eq(r.status, OK);
    cr_assert_eq(r.info, INFO_SIGNAL);
    cr_assert_eq(r.handle, 3);
    run_as(client.thread);
    expect_state(sys(call, client_end, 0, 0), THREAD_SEND);
    run_as(root_thread());
    expect_ok(sys(signal, n, 4));
    run_as(server.thread);
    r = sys(recv, server_end);
    cr_assert_eq(r.info, INFO_SIGNAL, "signals come before messages");
    cr_assert_eq(r.handle, 4);
    r = sys(recv, server_end);
    cr_assert_eq(r.handle, 1234);
}

Test(ipc, a_bound_notification_alone_can_be_received)
{
    handle_t n = make(notification_create, 0);
    expect_ok(sys(bind, n));
    expect_ok(sys(signal, n, 9));
    cr_assert_eq(sys(recv, 0).handle, 9);
    expect_ok(sys(bind, 0));
    expect_status(sys(recv, 0), E_ARGUMENT);
}

Test(ipc, a_notification_is_bound_to_one_thread)
{
    handle_t n = make(notification_create, 0), theirs = grant(&server, n, RIGHT_READ, 0);
    expect_ok(sys(bind, n));
    run_as(server.thread);
    expect_status(sys(bind, theirs), E_BUSY);
    run_as(root_thread());
    expect_ok(sys(bind, n));
    handle_t other = make(notification_create, 0);
    expect_ok(sys(bind, other));
    run_as(server.thread);
    expect_ok(sys(bind, theirs));
}

Test(ipc, a_destroyed_notification_wakes_its_waiters)
{
    handle_t n = make(notification_create, 0), a = grant(&server, n, RIGHT_READ, 0),
             b = grant(&client, n, RIGHT_READ, 0);
    run_as(server.thread);
    sys(wait, a);
    run_as(client.thread);
    expect_ok(sys(bind, b));
    run_as(root_thread());
    expect_ok(sys(cap_delete, n));
    cr_assert_eq(result_of(server.thread).status, E_PEER_GONE);
    run_as(client.thread);
    expect_status(sys(recv, 0), E_ARGUMENT);
    account_check(process_root);
}

/* A thread that waits only for the bound notification when that goes away must not sleep for ever. */
Test(ipc, a_receiver_of_signals_alone_hears_of_their_end)
{
    handle_t n = make(notification_create, 0), theirs = grant(&server, n, RIGHT_READ, 0);
    run_as(server.thread);
    expect_ok(sys(bind, theirs));
    expect_state(sys(recv, 0), THREAD_RECV);
    run_as(root_thread());
    expect_ok(sys(cap_delete, n));
    struct result r = result_of(server.thread);
    cr_assert_eq(r.state, THREAD_READY);
    cr_assert_eq(r.status, E_PEER_GONE);
}

Test(ipc, a_waiter_and_a_bound_thread_die)
{
    handle_t n = make(notification_create, 0), a = grant(&server, n, RIGHT_READ, 0),
             b = grant(&client, n, RIGHT_READ, 0);
    run_as(server.thread);
    sys(wait, a);
    run_as(client.thread);
    expect_ok(sys(bind, b));
    expect_state(sys(recv, 0), THREAD_RECV);
    kill_child(&server);
    kill_child(&client);
    expect_ok(sys(process_destroy, server.handle));
    expect_ok(sys(process_destroy, client.handle));
    expect_ok(sys(signal, n, 1));
    cr_assert_eq(sys(poll, n).w[0], 1);
    account_check(process_root);
}

/* Who floods an endpoint delays nobody above him: the most urgent caller is served first, equals in order. */
Test(ipc, the_most_urgent_caller_is_served_first)
{
    run_as(root_thread());
    handle_t n = make(notification_create, 0), wait_of[2];
    struct child low[4];
    for (unsigned i = 0; i < 4; i++) {
        low[i] = child_create(TEST_QUOTA, TAG_MAKE(3, 1), SCHED_MAKE(8, 0, 0));
        expect_ok(sys(process_grant, low[i].handle, endpoint, RIGHT_WRITE, 100 + i));
    }
    handle_t call_of = HANDLE_MAKE(1, 1), signal_of = grant(&low[3], n, RIGHT_WRITE, 0); /* first slots */
    wait_of[0] = grant(&server, n, RIGHT_READ, 0);
    wait_of[1] = grant(&client, n, RIGHT_READ, 0);
    for (unsigned i = 0; i < 4; i++) child_start(&low[i]);
    run_as(server.thread);
    sys(wait, wait_of[0]);
    run_as(client.thread);
    sys(wait, wait_of[1]);
    expect_state(sys(wait, n), THREAD_WAIT);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(current(), low[i].thread);
        expect_state(sys(call, call_of, 0), THREAD_SEND);
    }
    cr_assert_eq(current(), low[3].thread);
    sys(signal, signal_of, 1); /* the server: it waited first */
    cr_assert_eq(current(), server.thread);
    expect_state(sys(wait, wait_of[0]), THREAD_WAIT);
    sys(signal, signal_of, 1); /* the client */
    cr_assert_eq(current(), client.thread);
    expect_state(sys(call, client_end, 0), THREAD_SEND);
    sys(signal, signal_of, 1); /* the supervisor */
    sys(wait, n);
    sys(signal, signal_of, 1);
    cr_assert_eq(current(), server.thread);
    cr_assert_eq(sys(recv, server_end).handle, 1234, "the flood was served first");
    for (unsigned i = 0; i < 3; i++) cr_assert_eq(sys(reply_recv, server_end, 0).handle, 100 + i);
}

/* Revocation reaches what was made with the revoked: see docs/INVARIANTS.md, complete. */
Test(ipc, a_revoked_handle_serves_nobody_who_waits_by_it)
{
    handle_t e = make(endpoint_create, 0), n = make(notification_create, 0);
    struct child caller = child_make(1), server = child_make(2), waiter = child_make(3);
    handle_t call = grant(&caller, e, RIGHT_WRITE, 5), recv = grant(&server, e, RIGHT_READ, 0);
    handle_t wait = grant(&waiter, n, RIGHT_READ, 0);
    run_as(waiter.thread);
    expect_state(sys(wait, wait), THREAD_WAIT);
    run_as(caller.thread);
    expect_state(sys(call, call, INFO_REPLAYABLE, 1), THREAD_SEND);
    run_as(root_thread());
    expect_ok(sys(cap_revoke, e));
    expect_ok(sys(cap_revoke, n));
    cr_assert_eq(result_of(caller.thread).status, E_PEER_GONE);
    cr_assert_eq(result_of(waiter.thread).status, E_PEER_GONE);
    struct result info = sys(endpoint_info, e);
    cr_assert_eq(info.w[0], 0, "%lu are queued", info.w[0]);
    run_as(server.thread);
    expect_status(sys(recv, recv), E_HANDLE);
}

Test(ipc, a_call_is_not_replayed_by_a_revoked_handle)
{
    handle_t e = make(endpoint_create, 0);
    struct child caller = child_make(1), server = child_make(2);
    handle_t top = make(cap_derive, e, RIGHT_WRITE | RIGHT_GRANT, 0);
    handle_t call = grant(&caller, top, RIGHT_WRITE, 0), recv = grant(&server, e, RIGHT_READ, 0);
    run_as(server.thread);
    expect_state(sys(recv, recv), THREAD_RECV);
    run_as(caller.thread);
    expect_state(sys(call, call, INFO_REPLAYABLE, 1), THREAD_REPLY);
    run_as(root_thread());
    expect_ok(sys(cap_delete, top));
    cr_assert_eq(caller.thread->state, THREAD_REPLY, "what was taken goes on");
    expect_ok(sys(process_kill, server.handle, CAUSE_KILLED));
    cr_assert_eq(result_of(caller.thread).status, E_PEER_RESTARTED);
}

Test(ipc, a_timer_signals_no_more_when_its_notification_is_revoked)
{
    handle_t n = make(notification_create, 0);
    struct child c = child_make(1);
    handle_t theirs = grant(&c, n, RIGHT_READ | RIGHT_WRITE, 0);
    run_as(c.thread);
    handle_t t = make(timer_create, theirs, 1);
    expect_ok(sys(bind, theirs));
    expect_ok(sys(event_bind, theirs, 2));
    run_as(root_thread());
    expect_ok(sys(cap_revoke, n));
    cr_assert_null(c.thread->bound);
    cr_assert_null(c.process->event_source.notification);
    run_as(c.thread);
    expect_ok(sys(timer_arm, t, time_ns(host.tsc) + 10));
    host_advance(1000);
    run_as(root_thread());
    expect_status(sys(poll, n), E_WOULD_BLOCK);
}
