"""What a column's name says: words of English, German, French, Spanish, Italian and some of their neighbours.

What always holds: a name is read as words, whatever joins them (`patientName`, `patient_name`,
`Patient-Name`), without accents and case; a phrase is found only as whole words, so that `update` is no date.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from heliosdb.phi.kinds import Kind

_WORD = re.compile(r"[a-z]+|[0-9]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# The first kind with a phrase in the name is the one: what is narrower comes first (a mail address is no
# address).
_PHRASES: tuple[tuple[Kind, str], ...] = (
    (
        Kind.EMAIL,
        "email, e mail, emailadresse, courriel, correo, correo electronico, posta elettronica, mailadresse",
    ),
    (
        Kind.IP,
        "ip address, ipaddress, ip adresse, adresse ip, direccion ip, indirizzo ip, ip addr, ipv4, ipv6",
    ),
    (
        Kind.DEVICE,
        "device id, device serial, device identifier, serial number, serial no, serialnumber,"
        " seriennummer, numero serie, numero de serie, numero di serie, imei, imsi, mac address, mac"
        " adresse, udi, geratenummer, geraetenummer, implant id",
    ),
    (
        Kind.URL,
        "url, website, web site, webseite, homepage, site web, sitio web, sito web, web address",
    ),
    (
        Kind.FAX,
        "fax, telefax, faxnummer, telecopie",
    ),
    (
        Kind.PHONE,
        "phone, telephone, tel, telefon, telefonnummer, handy, handynummer, mobile phone, mobile number,"
        " cellphone, mobilnummer, telefono, movil, celular, cellulare, telefoon, phonenumber",
    ),
    (
        Kind.VEHICLE,
        "vin, license plate, licence plate, number plate, plate number, kennzeichen, kfz kennzeichen,"
        " immatriculation, plaque immatriculation, matricula, targa, vehicle id, vehicle number,"
        " fahrgestellnummer",
    ),
    (
        Kind.NATIONAL,
        "ssn, social security, socialsecurity, sozialversicherungsnummer, sv nummer, svnr, securite"
        " sociale, nir, seguridad social, nss, codice fiscale, codicefiscale, dni, nie, nif, steuer id,"
        " steuerid, steuernummer, tax id, taxid, tax number, nhs number, nhs no, bsn, burgerservicenummer,"
        " pesel, personnummer, national id, nationalid, national insurance, nino, ahv nummer, ahv,"
        " passport, reisepass, passnummer, passeport, pasaporte, passaporto, ausweisnummer",
    ),
    (
        Kind.PLAN,
        "health plan, beneficiary, beneficiary id, member id, member number, memberid, policy number,"
        " insurance number, insurance id, mbi, versichertennummer, kvnr, krankenversichertennummer,"
        " versicherungsnummer, numero assure, numero afiliado, tarjeta sanitaria, tessera sanitaria,"
        " numero tessera",
    ),
    (
        Kind.ACCOUNT,
        "account number, account no, account id, accountnumber, iban, bic iban, kontonummer, numero"
        " compte, numero de compte, numero cuenta, numero de cuenta, numero conto, credit card,"
        " creditcard, card number, cardnumber, kreditkarte, kreditkartennummer, carte bancaire, tarjeta"
        " credito, carta credito, carta di credito",
    ),
    (
        Kind.LICENSE,
        "license number, licence number, license no, licence no, certificate number, driver license,"
        " drivers license, driving licence, fuhrerschein, fuehrerschein, permis conduire, permis de"
        " conduire, permiso conducir, permiso de conducir, patente guida, patente di guida, npi, dea"
        " number, arztnummer, lanr",
    ),
    (
        Kind.RECORD,
        "mrn, medical record, medicalrecord, record number, patient id, patientid, patient no, patient"
        " number, patient nr, patientennummer, patienten id, patienten nr, patientnummer, fallnummer, case"
        " number, krankenaktennummer, aktenzeichen, numero dossier, numero de dossier, numero patient, id"
        " patient, historia clinica, numero historia, id paciente, numero paciente, cartella clinica,"
        " numero cartella, id paziente, chart number, hospital number, person id, subject id, participant"
        " id, personid, subjectid",
    ),
    (
        Kind.BIOMETRIC,
        "fingerprint, finger print, voice print, voiceprint, retina scan, iris scan, biometric,"
        " biometrics, fingerabdruck, empreinte digitale, huella dactilar, impronta digitale",
    ),
    (
        Kind.PHOTO,
        "photo, photograph, face image, portrait, foto, lichtbild, photographie, fotografia, passbild",
    ),
    (
        Kind.DATE,
        "date of birth, birth date, birthdate, dob, birthday, dod, date of death, geburtsdatum,"
        " geburtstag, sterbedatum, todesdatum, aufnahmedatum, entlassungsdatum, entlassdatum, date"
        " naissance, date de naissance, date deces, fecha nacimiento, fecha de nacimiento, data nascita,"
        " data di nascita, data ricovero, data dimissione, data decesso, geboortedatum, data nascimento",
    ),
    (
        Kind.PLACE,
        "address, addr, street, strasse, hausnummer, adresse, anschrift, rue, direccion, domicilio,"
        " calle, indirizzo, zip, zipcode, postcode, post code, postal code, postalcode, plz, postleitzahl,"
        " code postal, codepostal, codigo postal, city, town, stadt, wohnort, ville, commune, ciudad,"
        " municipio, citta, comune, county, landkreis, latitude, longitude, geocode, gps, census tract",
    ),
    (
        Kind.NAME,
        "first name, last name, full name, given name, family name, middle name, maiden name, patient"
        " name, person name, mother name, father name, surname, forename, lastname, firstname, fullname,"
        " vorname, nachname, familienname, geburtsname, patientenname, prenom, nom famille, nom de"
        " famille, nom naissance, nom patient, apellido, apellidos, nombre completo, nombre paciente,"
        " cognome, nome completo, voornaam, achternaam, sobrenome, nazwisko, initials, initialen",
    ),
    (
        Kind.UNIQUE,
        "uuid, guid, encounter id, user id, userid, username, user name, login name, benutzername, nombre"
        " usuario, barcode, sample id, specimen id",
    ),
)

# Words that mean an identifier only where they are the whole name.
_WHOLE: dict[str, Kind] = {
    **dict.fromkeys(("name", "names", "nom", "nombre", "nome", "naam"), Kind.NAME),
    **dict.fromkeys(("lat", "lon", "lng", "cap", "cp", "ort"), Kind.PLACE),
    **dict.fromkeys(("mail",), Kind.EMAIL),
    **dict.fromkeys(("ip",), Kind.IP),
}
_DATE_WORDS = frozenset({"date", "datum", "fecha"})
_AGE_WORDS = frozenset({"age", "alter", "edad", "eta", "leeftijd", "idade", "wiek", "agey"})


def _table() -> dict[tuple[str, ...], Kind]:
    found: dict[tuple[str, ...], Kind] = {}
    for kind, phrases in _PHRASES:
        for phrase in phrases.split(","):
            found.setdefault(tuple(phrase.split()), kind)
    return found


_KIND_OF = _table()
_ORDER = {kind: place for place, (kind, _) in enumerate(_PHRASES)}
_LONGEST = max(map(len, _KIND_OF))


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name, in lower case and without accents."""
    parted = _CAMEL.sub(" ", name.replace("ß", "ss"))
    plain = unicodedata.normalize("NFKD", parted).encode("ascii", "ignore").decode().lower()
    return tuple(_WORD.findall(plain))


def kind_of_name(name: str) -> Kind | None:
    """Return what a column of this name is, None where the name says nothing."""
    words = words_of(name)
    if len(words) == 1 and words[0] in _WHOLE:
        return _WHOLE[words[0]]
    found = [_KIND_OF[run] for run in _runs(words) if run in _KIND_OF]
    if found:
        return min(found, key=_ORDER.__getitem__)
    if words and (words[0] in _DATE_WORDS or words[-1] in _DATE_WORDS):
        return Kind.DATE
    return None


def is_age(name: str) -> bool:
    """Whether a column of this name holds people's ages."""
    return bool(_AGE_WORDS & set(words_of(name)))


def _runs(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for start in range(len(words)):
        for end in range(start + 1, min(start + _LONGEST, len(words)) + 1):
            yield words[start:end]
