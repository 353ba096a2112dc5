"""Signed pictures, read back by c2pa-python itself."""

import json
from datetime import UTC, datetime, timedelta
from io import BytesIO

import c2pa
import pytest
from called import answer, complaint
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

from celeb_basis import OutputError, Signer, save_image
from celeb_basis.image_files import how_drawn

KEYS = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
}


def certificate(subject, key, issuer, issuers_key, purposes=()):
    """A certificate in PEM, valid now; without purposes that of an authority."""
    named = [x509.Name([x509.NameAttribute(oid, name) for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)])
             for name in (subject, issuer)]  # fmt: skip
    ca = not purposes
    uses = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
         "decipher_only"), False,
    )  # fmt: skip
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(*reversed(named), key, x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **uses), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers_key.public_key()), critical=False)
    )
    if purposes:
        made = made.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return made.sign(issuers_key, SHA256()).public_bytes(Encoding.PEM).decode()


def in_pem(key, form=PrivateFormat.PKCS8, encryption=None):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode()


def pem(kind="es256", purpose=ExtendedKeyUsageOID.EMAIL_PROTECTION, **form):
    """A private key, its certificate, and that of who issued it."""
    key, authority = KEYS[kind](), KEYS["es256"]()
    root = certificate("authority", authority.public_key(), "authority", authority)
    return in_pem(key, **form), certificate("annika", key.public_key(), "authority", authority, [purpose]), root


def read(file):
    reader = c2pa.Reader("image/png", BytesIO(file.read_bytes()))
    return reader.get_validation_state(), json.loads(reader.json())


@pytest.mark.parametrize("kind", KEYS)
def test_a_signed_picture_says_that_a_model_made_it(kind, tmp_path):
    (tmp_path / "key.pem").write_text("".join(pem(kind)))
    picture = Image.effect_noise((64, 48), 90)
    picture.info |= {"prompt": "the beach", "seed": "7"}
    file = tmp_path / "out.png"
    save_image(picture, file, signer=Signer.load(tmp_path / "key.pem"), model="/somewhere/tiny")
    state, found = read(file)
    assert state == "Valid"
    manifest = found["manifests"][found["active_manifest"]]
    [action] = manifest["assertions"][0]["data"]["actions"]
    assert action["action"] == "c2pa.created" and action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert action["parameters"] == {"model": "tiny"} and action["softwareAgent"]["name"].startswith("celeb-basis")
    assert manifest["signature_info"]["common_name"] == "annika" and "thumbnail" not in manifest
    with Image.open(file) as saved:
        assert saved.tobytes() == picture.tobytes()
    assert (how_drawn(file).prompt, how_drawn(file).seed) == ("the beach", 7)  # as without


def test_a_signature_does_not_hold_for_another_picture(tmp_path):
    (tmp_path / "key.pem").write_text("".join(pem()))
    file = tmp_path / "out.png"
    save_image(Image.new("RGB", (64, 64)), file, signer=Signer.load(tmp_path / "key.pem"), prompt="the beach")
    file.write_bytes(file.read_bytes().replace(b"the beach", b"the wreck"))
    assert read(file)[0] == "Invalid"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (lambda: "", "must hold one private key and its certificates in PEM"),
        (lambda: pem()[0], "must hold one private key and its certificates in PEM"),
        (lambda: "".join(pem() + pem()), "must hold one private key"),
        (lambda: pem()[0] + "".join(pem()[1:]), "does not match"),
        (lambda: "".join(pem(purpose=ExtendedKeyUsageOID.SERVER_AUTH)), "C2PA takes one for e-mail or documents"),
        (lambda: pem()[1] + in_pem(ec.generate_private_key(ec.SECP256K1())), "the curves P-256, P-384 and P-521"),
        (lambda: "".join(pem(encryption=BestAvailableEncryption(b"sesam"))), "the private key has a password"),
        (lambda: pem()[1] + "-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----", "one private key"),
        (lambda: pem()[1] + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "this key cannot sign"),
    ],
)
def test_what_cannot_sign_is_one_line(text, says, tmp_path):
    (tmp_path / "key.pem").write_text(text())
    with pytest.raises(OutputError, match=says) as refused:
        Signer.load(tmp_path / "key.pem")
    assert str(refused.value).startswith(str(tmp_path / "key.pem")) and "PRIVATE KEY-" not in str(refused.value)


def test_keys_in_openssls_older_form_sign_too(tmp_path):
    (tmp_path / "key.pem").write_text("".join(pem(form=PrivateFormat.TraditionalOpenSSL)))
    assert Signer.load(tmp_path / "key.pem")


def test_the_command_signs(tmp_path, capsys):
    (tmp_path / "key.pem").write_text("".join(pem()))
    line = ("generate", "a photo of the beach", "--steps", 1, "-o", tmp_path, "-n", 2, "--sign", tmp_path / "key.pem")
    for picture in answer(capsys, *line)["pictures"]:
        assert read(tmp_path / picture)[0] == "Valid"
    (tmp_path / "key.pem").write_text("")
    assert "must hold one private key" in complaint(capsys, *line)
