"""The role ``redis`` of Base04 without a server: an LMDB file that all processes of a machine share."""
