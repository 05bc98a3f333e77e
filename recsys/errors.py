"""The errors of the recommender core. Each message says what is wrong, the value, and the next step.

RecsysError
  DatasetError     the data given cannot be read, or too much of it is malformed
  VocabularyError  duplicate ids or a 64-bit key collision
  StateError       a packed user state does not decode
  BundleError      a bundle is missing, truncated, corrupt or mismatched; names the file
  RegistryError    a registry operation that cannot be done
  TrainingError    the data cannot train a bundle
  ArchiveError     the archive cannot be read or written; names the file
"""


class RecsysError(Exception):
    """Base of every error that `recsys` raises on purpose."""


class DatasetError(RecsysError):
    """The data given cannot be read, or more than the allowed share of it is malformed."""


class VocabularyError(RecsysError):
    """Item ids are duplicated, or two of them share one 64-bit key."""


class StateError(RecsysError):
    """A packed user state does not decode."""


class BundleError(RecsysError):
    """A bundle is missing, truncated, corrupt or does not match its manifest."""


class SignatureError(BundleError):
    """No trusted key vouches for a bundle, or a key cannot be used."""


class RegistryError(RecsysError):
    """A registry operation that cannot be done."""


class Moved(RegistryError):
    """Somebody else changed what a change was meant for."""


class TrainingError(RecsysError):
    """The data cannot train a bundle."""


class ArchiveError(RecsysError):
    """The archive cannot be read or written."""
