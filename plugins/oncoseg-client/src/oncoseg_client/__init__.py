"""The client of an OncoSeg server: httpx and numpy, no torch.

from oncoseg_client import Server

    with Server("http://127.0.0.1:8765") as server, server.open("demo", study_uid, series_uid) as session:
        session.point("tumour", 20, 351.5, 365.5)
        print(session.structures["tumour"]["long"]["mm"])
        mask = session.mask("tumour")
"""

from oncoseg_client.call_queue import CallQueue
from oncoseg_client.errors import ServerError
from oncoseg_client.journal import Journal, Unfinished, fingerprint, unfinished
from oncoseg_client.local import LocalServer
from oncoseg_client.masks import EncodedMask, decode_mask, encode_mask
from oncoseg_client.queued import Op, QueuedSession, Step, fold
from oncoseg_client.sentences import sentences_of
from oncoseg_client.server import Server
from oncoseg_client.servers import Servers
from oncoseg_client.session import RemoteSession
from oncoseg_client.voxels import Voxels

__all__ = [
    "CallQueue",
    "EncodedMask",
    "Journal",
    "LocalServer",
    "Op",
    "QueuedSession",
    "RemoteSession",
    "Server",
    "ServerError",
    "Servers",
    "Step",
    "Unfinished",
    "Voxels",
    "decode_mask",
    "encode_mask",
    "fingerprint",
    "fold",
    "sentences_of",
    "unfinished",
]
