"""Forms and names: what identifies is found in several languages, and what does not is left alone."""

from __future__ import annotations

import pytest

from heliosdb.phi import texts
from heliosdb.phi.kinds import Kind
from heliosdb.phi.names import is_age, kind_of_name, words_of


@pytest.mark.parametrize(
    ("question", "yes", "no"),
    [
        (texts.has_email, ["a.b@example.org", "write to jo+x@mail.example.co.uk."], ["a@b", "@x.org", "5 @ 3.2"]),
        (texts.has_url, ["https://example.org/x", "see www.example.org"], ["http", "www.", "ratio a//b"]),
        (texts.has_phone, ["+49 30 1234567", "(212) 555-0147", "212-555-0147", "0171 1234567"], ["140/90", "2120", "1234567890", "12-13-14"]),
        (texts.is_ip, ["192.0.2.7", "2001:db8::1", "10.0.0.0/8"], ["1.2", "999.1.1.1", "12:30", "7.5"]),
        (texts.is_mac, ["00:1A:2b:3c:4d:5e", "00-1A-2B-3C-4D-5E"], ["00:1A:2B", "12:30:45"]),
        (texts.is_uuid, ["f81d4fae-7dec-11d0-a765-00a0c91e6bf6"], ["1" * 32, "f81d4fae"]),
        (texts.is_postcode, ["12345-6789", "SW1A 1AA", "K1A 0B1"], ["12345", "A12", "N18.3", "E11"]),
        (texts.is_date, ["1956-02-29", "29.02.1956", "2/29/1956", "1956-02-29T10:00"], ["1957-02-29", "1956", "12/1956", "1.2.3", "140-90-60"]),
        (texts.is_person, ["Maria Huber", "O'Neil, Jane", "Jean-Luc P. Martin"], ["stage two", "Male", "BRCA1 positive", "T2 N0"]),
        (texts.is_free_text, ["Patient complains of chest pain since early morning hours"], ["moderate", "type 2 diabetes"]),
    ],
)  # fmt: skip
def test_forms(question: object, yes: list[str], no: list[str]) -> None:
    assert callable(question)
    assert [value for value in yes if not question(value)] == []
    assert [value for value in no if question(value)] == []


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Kind.NAME, "name first_name LastName nachname prenom apellidos cognome patientName achternaam mothers_name_x mother_name"),
        (Kind.PLACE, "zip zip_code plz Straße code_postal direccion indirizzo city latitude HomeAddress lat"),
        (Kind.DATE, "dob birth_date geburtsdatum date_de_naissance fechaNacimiento data_di_nascita admission_date date_admission"),
        (Kind.PHONE, "phone telefon telefono_casa tel mobile_phone movil"),
        (Kind.FAX, "fax fax_number telecopie"),
        (Kind.EMAIL, "email e_mail EMailAddress courriel correo_electronico email_address"),
        (Kind.NATIONAL, "ssn SocialSecurityNumber steuer_id codice_fiscale dni nir nhs_number passport_no personnummer"),
        (Kind.RECORD, "mrn patient_id PatientID patientennummer numero_de_dossier id_paciente medical_record_no"),
        (Kind.PLAN, "beneficiary_id kvnr member_id numero_afiliado"),
        (Kind.ACCOUNT, "iban account_number kontonummer card_number numero_de_cuenta"),
        (Kind.LICENSE, "license_number npi drivers_license fuehrerschein_nr"),
        (Kind.VEHICLE, "vin license_plate kennzeichen targa"),
        (Kind.DEVICE, "serial_number device_id imei mac_address seriennummer"),
        (Kind.URL, "url website"),
        (Kind.IP, "ip ip_address clientIpAddress"),
        (Kind.BIOMETRIC, "fingerprint_hash voice_print"),
        (Kind.PHOTO, "photo foto face_image"),
        (Kind.UNIQUE, "uuid encounter_id user_name"),
    ],
)  # fmt: skip
def test_names_of_columns(kind: Kind, names: str) -> None:
    wrong = {name: kind_of_name(name) for name in names.split() if kind_of_name(name) is not kind}
    assert wrong.pop("mothers_name_x", None) is None
    assert wrong == {}


@pytest.mark.parametrize(
    "name",
    [
        "age",
        "sex",
        "bmi",
        "bp",
        "s1",
        "systolic_bp",
        "blood_pressure",
        "cholesterol",
        "updated",
        "update_count",
        "drug_name",
        "outcome",
        "disease_outcome",
        "state",
        "country",
        "year",
        "birth_year",
        "stage",
        "grade",
        "zone",
        "dose_mg",
        "candidate",
        "mandate",
        "telomere_length",
        "urology",
        "shipping",
        "ipsilateral",
        "iris_width",
        "capacity",
        "opportunity",
        "nirs_signal",
        "dnieper",
        "tumor_size",
        "lat_wall_motion",
        "platelet_count",
        "hba1c",
        "tenure_months",
        "monthly_charges",
        "contract_type",
        "accounts",
        "licensed",
        "cityscape",
        "faxitron",
        "x",
        "1",
        "größe",
    ],
)
def test_ordinary_names_say_nothing(name: str) -> None:
    assert kind_of_name(name) is None


def test_names_are_read_as_words() -> None:
    assert words_of("PatientFirstName") == ("patient", "first", "name")
    assert words_of("straße_Nr2") == ("strasse", "nr", "2")
    assert words_of("Fecha-de Nacimiento") == ("fecha", "de", "nacimiento")
    assert words_of("住所") == ()
    assert kind_of_name("") is None
    assert [name for name in ("age", "patient_age", "Alter", "edad", "âge", "stage", "wage_band") if is_age(name)] == [
        "age", "patient_age", "Alter", "edad", "âge",
    ]  # fmt: skip
