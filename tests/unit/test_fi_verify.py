# SPDX-License-Identifier: BSD-2-Clause
"""The check of the disk image can fail: planted losses and corruptions are found."""
import pytest

from faultinject import verify

PLACES, STRIDE, SEED = 64, 2654435761, 42


@pytest.fixture
def acks():
    a = verify.Acks()
    a.start(PLACES, STRIDE, SEED)
    a.add([[1, 150]], trial=1)
    a.add([[152, 200]], trial=2)
    return a


@pytest.fixture
def disk(tmp_path, acks):
    path = tmp_path / "data.img"
    image = bytearray(PLACES * verify.RECORD_BYTES)
    for seq in range(1, 201):
        place = seq * STRIDE % PLACES
        image[place * 4096:(place + 1) * 4096] = verify.make_record(seq, place, SEED)
    path.write_bytes(image)
    return path


def put(path, place, block):
    with open(path, "r+b") as f:
        f.seek(place * 4096)
        f.write(block)


def test_a_good_disk_passes(disk, acks):
    assert verify.check_disk(disk, acks) == [] and acks.count == 199 and acks.repeated == []


def test_a_lost_write_is_found_and_put_down_to_its_trial(disk, acks):
    place = 200 * STRIDE % PLACES
    put(disk, place, verify.make_record(200 - PLACES, place, SEED))
    (finding,) = verify.check_disk(disk, acks)
    assert (finding.kind, finding.seq, finding.found, finding.trial) == ("lost", 200, 200 - PLACES, 2)


def test_a_later_unacknowledged_record_is_no_loss(disk, acks):
    place = 200 * STRIDE % PLACES
    put(disk, place, verify.make_record(200 + PLACES, place, SEED))
    assert verify.check_disk(disk, acks) == []


@pytest.mark.parametrize("spoil", [
    lambda b: bytes(4096),                             # never written
    lambda b: b[:2048] + b[2049:2050] + b[2049:],      # one byte
    lambda b: b[:512] + b[1024:1536] + b[512:1024] + b[1536:],  # sectors swapped
    lambda b: b[:3584] + bytes(512),                   # torn
    lambda b: verify.make_record(200, 3, SEED),        # of another place
    lambda b: verify.make_record(200, 200 * STRIDE % PLACES, SEED + 1),  # of another run
])
def test_corruption_is_found(disk, acks, spoil):
    place = 200 * STRIDE % PLACES
    put(disk, place, spoil(verify.make_record(200, place, SEED)))
    (finding,) = verify.check_disk(disk, acks)
    assert (finding.kind, finding.place) == ("corrupt", place)


def test_a_repeated_acknowledgement_is_noticed(acks):
    acks.add([[150, 151]], trial=3)
    assert acks.repeated == [150]


def test_a_short_image_is_corrupt(disk, acks):
    with open(disk, "r+b") as f:
        f.truncate((PLACES - 1) * 4096)
    assert [f.kind for f in verify.check_disk(disk, acks)] == ["corrupt"]


def test_a_stray_record_is_put_down_to_its_own_trial(disk, acks):
    place = 200 * STRIDE % PLACES  # acknowledged in trial 2
    put(disk, place, verify.make_record(140, 140 * STRIDE % PLACES, SEED))  # acknowledged in trial 1
    (finding,) = verify.check_disk(disk, acks)
    assert (finding.kind, finding.trial) == ("corrupt", 1)
    assert (acks.trial_of(140), acks.trial_of(151), acks.trial_of(10**9), acks.trial_of(None)) == (1, 0, 0, 0)
