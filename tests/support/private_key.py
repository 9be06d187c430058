"""A private key that stays the same, with passphrases that fail in each of the two ways in which one can.

It opens nothing: it was made for these tests.
"""

from pydantic import SecretStr

PASSPHRASE = SecretStr("4 horses under a lamp")

#: What is decrypted with it has no valid padding, as with nearly every wrong passphrase.
WRONG_PASSPHRASE = SecretStr("another passphrase 0")

#: What is decrypted with it has a valid padding by chance, and is not a key.
PASSPHRASE_WITH_VALID_PADDING = SecretStr("another passphrase 284")

PEM = b"""-----BEGIN ENCRYPTED PRIVATE KEY-----
MIIFNTBfBgkqhkiG9w0BBQ0wUjAxBgkqhkiG9w0BBQwwJAQQSk72HUb8pumuSccG
8+vG1AICCAAwDAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEENLOF3W3lVnpHoc/
h0Ky3kEEggTQ8knA/O//FUfUVC3KZJYL6R3Q/s9WjT4XPChQRM5FkfqmTfhPs3YF
oC3Af4tS6Rxe01HqNzKmiVIbvWbi20PUHjZwaayXWY9YyO+SjrjruDOhepg0f3y6
zSm2N8aEMONEh2j6eJ6aZNHJvAlD5hbDa/6IcBfZEfbFmM/x7Eghg/X4E6jN/ydB
RSxlQQqfoOyZR7BcGf9HOaVYPdXI/b7k8owz93ZNr9SgMIkNIE7s0e/kYcCfNXDw
M0uSOwZE/qMUfFAXxxdiDo7aXnseHthTdkn1YG8oioFXQxr8PpkktH5Dw+6wVFwd
0/nt/2lQmMgrnPVDdj4V8et2twp7JWzsTcqGol0Zaue4FxV3pSmpvYt2UExvNxH3
OCBG/wKEfQIrbEImM5H6Cw+3Zl/FJmJKHp/ryKPQ/Ycjh1c96bHy1G1JjIEhC4r+
2+QvrVjMWdPiepKF67518mvg5WoUVlmPDtNXTIv3xqbQ7kJ3Ynenqo+E7emw3WOo
F7dL3pveDRHOaIBKJfTPa7RwmZB0AUhj8J5Om3DSIGaZT5Ki86MuyWGnqEpiGeiF
lMTbetQycD345RtSpjZuGvqjWbdcdDZsjz8JsnLNKq1sCztzGNGoa28/qfCwhHta
1DBlLsEEG/dkrrjluE0+O76fKl4wW7tbDF7MtOQqZ+BQI5szxOpyr8xs/keRWqcR
m9FEa+r7KZTrEni5E8Jq7sYv0vK4uNfTk4Jeqwj7fDnkDSnL69eKRnlDpeN2qdwO
W5H/OxEOO9nUcGfjssEYbR4B/iEc5HayZmYjAEvBJbMOZ+RvnCVFmSHXi8QeQxj2
wcj25gvTFWtrGtlqwjieWl/t36SiGrpeXb4dbEvcQWrDwkw9/TxO3qkrsvqgLBT0
EfbhK5mysSuyjybRNCdQNkdWMno96amVrkI6kDRp7mTUmiyj3wU4IgO8HMBSyITR
wu+xhImXQR/9qT1V2XrRturSvVPcrQNRBGE38NxkM0Z3do21v/mUYMR7qc4RmIhO
1iG7hrRQ/74Xi01/eqCj7UkF33oQwdlOAWGwDB6AQozRSSr/7baAiMHJxWBS/O8R
Gjwrjy4rWKF1mvMPrggtLCk+9/7QuSLvBYzQ28QSQXNddX0I9PxeLIESyiooZXnZ
gD6w6RN1lSbseax8fmDPwhzZbG2ScCK1kzYgNwfJx8qCO6Km6pMjnKnDWjKiCvff
3V8Dbv4pTdyQ2PRrc2+LIdkdWauhVxebVfmeRuYOMMM7b3DAUdIlkwaTs0bFkJUJ
rey42pyaOlI8h68Xc3Oekd2k4VUdEmV79EWmohxK4p1vuvVEblXAZur1Pmyr4Y1Y
RAk1SlxdDF2Lm/X+1meufAUPIvMIh9P85rnb7+nj31jD/XYZlrZVG8KvMYBS4dDJ
3+5WSojIsnggLs0x/rcZXydP4tJRFj2Qr4jaslnnY1i9zvID+UfGJA9huxEuAZI5
2w9ybqp/UFMEvdMfh/6EmqjQZW4QkNdkJHuFiVhu4fFN4vtRrRmJwl+uQU5Xh19I
agkC7+ZFcPUC+cm5a8DNDizxPKDxSzgoyjPcHFhEdzHhELmzqOa+7yY17YXV7jjW
2plekQSxGlFoPM4lDC5tMXHartl/V27L8ce7kTW2iNGrVQDLDeaZZRQ=
-----END ENCRYPTED PRIVATE KEY-----
"""
