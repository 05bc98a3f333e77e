"""`riffle bundles sign` and `verify`, and a home that refuses what no trusted key has signed."""

import json
import shutil
from pathlib import Path

import pytest

from recsys.errors import BundleError, SignatureError
from recsys.manifest import MANIFEST_NAME
from recsys.signature import SIGNATURES_NAME, TrustedKeys, private_key
from service.round_trips import RoundTrips
from service.settings import Settings
from service.traffic.residents import Residents
from service.world import load_world, registry
from tests.free_ports import free_port
from tests.recsys.keys import write_key
from tests.service.test_cli import Home, refused, write_csv
from tests.worlds import two_tastes


@pytest.fixture
def home(published_home: Settings, tmp_path: Path) -> Home:
    """A copy of a home with one bundle, the champion; its keys `ours` and `theirs` lie beside it."""
    shutil.copytree(published_home.home, tmp_path / "state")
    write_key(tmp_path, "ours")
    write_key(tmp_path, "theirs")
    return Home(tmp_path)


def champion_of(home: Home) -> Path:
    return home.registry.path("champion")


def test_signed_bundle_is_verified_promoted_and_loaded_under_trusted_keys(home: Home) -> None:
    signed = home.riffle("bundles", "sign", "--key", "ours.pem")
    assert (signed.code, signed.err) == (0, "")
    signer = next(iter(json.loads((champion_of(home) / SIGNATURES_NAME).read_text())))
    assert f"is signed by {signer[:16]}" in signed.out
    verified = home.riffle("bundles", "verify", "--keys", "ours.pub.pem")
    assert f"signed by a trusted key; signatures: {signer[:16]}" in verified.out
    again = home.riffle("bundles", "promote", "champion", "--reason", "again", trusted_keys="ours.pub.pem")
    assert again.code == 0, again
    settings = Settings(home=str(home.path / "state"), trusted_keys=str(home.path / "ours.pub.pem"))
    assert load_world(settings).bundle.id == home.registry.champion()


@pytest.mark.parametrize(("key", "said"), [(None, "it is not signed"), ("theirs.pem", "that key is not trusted here")])
def test_bundle_without_a_signature_by_a_trusted_key_is_refused(home: Home, key: str | None, said: str) -> None:
    if key:
        assert home.riffle("bundles", "sign", "--key", key).code == 0
    assert said in refused(home.riffle("bundles", "verify", trusted_keys="ours.pub.pem"))
    assert said in refused(home.riffle("bundles", "promote", "champion", "--reason", "x", trusted_keys="ours.pub.pem"))
    settings = Settings(home=str(home.path / "state"), trusted_keys=str(home.path / "ours.pub.pem"))
    with pytest.raises(SignatureError, match=said):
        load_world(settings)
    unguarded = home.riffle("bundles", "verify")
    assert unguarded.code == 0
    assert "no trusted keys are set, so no signature counts" in unguarded.out


def test_tampered_manifest_is_refused(home: Home) -> None:
    assert home.riffle("bundles", "sign", "--key", "ours.pem").code == 0
    manifest = champion_of(home) / MANIFEST_NAME
    manifest.chmod(0o644)
    manifest.write_bytes(
        manifest.read_bytes().replace(b'"code_commit":"000000000000"', b'"code_commit":"000000000001"')
    )
    assert "is not of this manifest" in refused(home.riffle("bundles", "verify", trusted_keys="ours.pub.pem"))


async def test_replica_does_not_start_with_a_champion_that_is_not_signed(home: Home) -> None:
    settings = Settings(home=str(home.path / "state"), trusted_keys=str(home.path / "ours.pub.pem"))
    residents = Residents(
        lambda one: load_world(settings, one),
        lambda *_: None,
        RoundTrips(f"redis://127.0.0.1:{free_port()}/0", timeout_ms=50, connections=1),
        deployed=str(home.registry.champion()),
        kept=home.path / "traffic.json",
        replica="r",
        role="Gateway",
        node="n",
    )

    with pytest.raises(BundleError, match="not signed"):
        await residents.begin()
    registry(settings).sign("champion", private_key(home.path / "ours.pem"))
    await residents.begin()
    assert residents.champion.world.bundle.id == home.registry.champion()


def test_gate_has_no_other_line_where_the_signature_is_missing(home: Home) -> None:
    run = home.riffle("bundles", "gate", "champion", trusted_keys="ours.pub.pem")
    assert "it is not signed" in " ".join(refused(run).split())
    assert "user states" not in run.out


def test_training_signs_what_it_publishes(home: Home) -> None:
    assert home.riffle("import", str(write_csv(home.path / "shop", two_tastes()))).code == 0
    keys = {"signing_key": "ours.pem", "trusted_keys": "ours.pub.pem"}
    # The champion of before is not signed, so it is not asked beside the new one: it cannot be loaded here.
    trained = home.riffle("train", **keys)
    assert trained.code == 0, trained
    champion = str(home.registry.champion())
    TrustedKeys.read(home.path / "ours.pub.pem").check(
        home.registry.path(champion), (home.registry.path(champion) / MANIFEST_NAME).read_bytes()
    )
    assert "now champion" in trained.out


def test_signing_without_a_key_or_with_a_wrong_file_says_so(home: Home) -> None:
    assert "no key" in refused(home.riffle("bundles", "sign"))
    assert "no private key" in refused(home.riffle("bundles", "sign", "--key", "ours.pub.pem"))
    assert "cannot be read" in refused(home.riffle("bundles", "sign", "--key", "absent.pem"))
    assert "cannot be read" in refused(home.riffle("bundles", "list", trusted_keys="absent.pem"))
    assert not (champion_of(home) / SIGNATURES_NAME).exists()
