"""The commands of ``dds``, a module each."""
