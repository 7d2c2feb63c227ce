/* SPDX-License-Identifier: BSD-2-Clause
 * The client's side of a stream session: two byte rings. Each index has one writer; the driver's two are
 * stored by the kernel together with the port access, so no byte repeats or vanishes when the driver
 * dies between two instructions. An index of the driver's that cannot be is reported and counts as "nothing
 * new". */
#include "session.h"
#include "../abi/protocol.h"
#include "atomic.h"

status_t stream_open(struct stream_session *s, const char *service, handle_t notification)
{
    const struct startup_cap *entry = cap_entry(service);
    struct message m = {.info = INFO_MAKE(0, 1) | INFO_REPLAYABLE};
    void *client, *driver, *data;

    if (entry == NULL) return E_NOT_FOUND;
    *s = (struct stream_session){.notification = notification};
    m.w[0] = entry->value;
    m.w[1] = SESSION_STREAM;
    m.w[3] = 2 * STREAM_RING;
    status_t status = session_notification(&s->notification, &m.w[7]);
    if (status == OK) status = service_call(cap_find("recovery"), RECOVERY_OPEN, &m);
    if (status == OK) status = map_new(m.w[3], 1, RIGHT_READ | RIGHT_WRITE, &client);
    if (status == OK) status = map_new(m.w[4], 1, RIGHT_READ, &driver);
    if (status == OK) status = map_new(m.w[6], PAGES_FOR(2 * STREAM_RING), RIGHT_READ | RIGHT_WRITE, &data);
    if (status != OK) return status;
    s->id = m.w[0];
    s->driver_bit = m.w[1];
    s->bits = m.w[2];
    s->doorbell = m.w[7];
    s->client = client;
    s->driver = driver;
    s->tx = data;
    s->rx = s->tx + STREAM_RING;
    return OK;
}

static void stream_complain(struct stream_session *s)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {s->id, 0, E_PROTOCOL}};

    s->violations++;
    if (s->complained) return;
    s->complained = true;
    if (service_call(cap_find("recovery"), RECOVERY_COMPLAIN, &m) != OK) return; /* not upheld: go on */
}

/* Bytes between two indices, or 0 with a complaint if no ring can hold as many. */
static uint32_t stream_used(struct stream_session *s, uint32_t head, uint32_t tail)
{
    uint32_t used = head - tail;

    if (used <= STREAM_RING) {
        s->complained = false;
        return used;
    }
    stream_complain(s);
    return 0;
}

static void stream_tell_driver(struct stream_session *s)
{
    memory_fence(); /* our index before the look at driver_waiting */
    if (s->driver->driver_waiting != 0) (void)sys_signal(s->doorbell, s->driver_bit);
}

static void ring_copy_in(uint8_t *ring, uint32_t at, const uint8_t *from, uint32_t n)
{
    uint32_t first = STREAM_RING - at % STREAM_RING;

    if (first > n) first = n;
    memcpy(ring + at % STREAM_RING, from, first);
    memcpy(ring, from + first, n - first);
}

static void ring_copy_out(uint8_t *to, const uint8_t *ring, uint32_t at, uint32_t n)
{
    uint32_t first = STREAM_RING - at % STREAM_RING;

    if (first > n) first = n;
    memcpy(to, ring + at % STREAM_RING, first);
    memcpy(to + first, ring, n - first);
}

size_t stream_write(struct stream_session *s, const void *data, size_t n)
{
    uint32_t head = s->client->tx_head, tail = shared_load(&s->driver->tx_tail);

    if (head - tail > STREAM_RING) {
        stream_complain(s);
        return 0;
    }
    uint32_t room = STREAM_RING - (head - tail);
    if (n > room) n = room;
    if (n == 0) return 0;
    ring_copy_in(s->tx, head, data, (uint32_t)n);
    shared_store(&s->client->tx_head, head + (uint32_t)n);
    stream_tell_driver(s);
    return n;
}

size_t stream_read(struct stream_session *s, void *data, size_t n)
{
    uint32_t tail = s->client->rx_tail;
    uint32_t used = stream_used(s, shared_load(&s->driver->rx_head), tail);

    if (s->client->client_waiting != 0) shared_store(&s->client->client_waiting, 0);
    if (n > used) n = used;
    if (n == 0) return 0;
    ring_copy_out(data, s->rx, tail, (uint32_t)n);
    shared_store(&s->client->rx_tail, tail + (uint32_t)n);
    if (used == STREAM_RING) stream_tell_driver(s); /* it may have stopped for lack of room */
    return n;
}

void stream_control(struct stream_session *s, uint32_t settings)
{
    shared_store(&s->client->control, settings);
    stream_tell_driver(s);
}

/* Room for output is announced as well: the driver signals whenever it moved something. */
bool stream_arm(struct stream_session *s)
{
    uint32_t tail = s->client->rx_tail;

    if (shared_load(&s->driver->rx_head) != tail) return false;
    shared_store(&s->client->client_waiting, 1);
    memory_fence();
    if (shared_load(&s->driver->rx_head) == tail) return true;
    shared_store(&s->client->client_waiting, 0);
    return false;
}

void stream_wait(struct stream_session *s)
{
    if (stream_arm(s)) (void)sys_wait(s->notification); /* whatever woke us, the caller looks */
}
