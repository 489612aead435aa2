"""The provider ``socketio``: the Socket.IO protocol, for its clients in many languages."""
