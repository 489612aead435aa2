"""The role ``jwt``: signed tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar, TypedDict

from base04_hookspecs.errors import NotSupported
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import Since, hookspec
from base04_hookspecs.provider import Provider

ClaimsSource = Callable[[str, str], Awaitable[Mapping[str, Any]]]
"""Called with the user id and a reference; returns the claims that the user has now, or raises ``InvalidToken``.

``exp`` among them, in seconds since the epoch, says until when they hold: the access token ends then at the latest.
"""


class TokenPair(TypedDict):
    """A new access token and the refresh token that takes the place of the old one (RFC 6749, section 5.1)."""

    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int


class JWTManager(Manager):
    """Creates, validates, refreshes and revokes tokens (RFC 7519, 8725, 9068).

    A payload has ``user_id`` beside the registered claims ``iss``, ``sub``, ``aud``, ``exp``, ``iat``, ``jti``.

    Capabilities: ``jwks`` (public keys are served), ``revocation`` (tokens stop before they expire), ``rotation``
    (``rotate_keys``).

    Without ``revocation`` what revokes tokens raises ``NotSupported``.
    """

    role: ClassVar[str] = "jwt"
    contract_version: ClassVar[str] = "1.2"

    @abstractmethod
    async def create_access_token(
        self, user_id: str, additional_claims: Mapping[str, Any] | None = None, *, source: str | None = None
    ) -> str:
        """Create an access token; ``additional_claims`` may not replace a registered claim.

        ``source`` is ``"name:reference"``, such as ``api_key:<id>``: the token stops with ``revoke_source_tokens``.

        Raises:
            InvalidInput: the user id is empty, the source is malformed, or a claim is reserved or not JSON. For a
                registered claim its ``faults`` have the pointer ``/<claim>``.
        """

    @abstractmethod
    async def create_refresh_token(self, user_id: str, *, source: str | None = None) -> str:
        """Create a refresh token, the first of a new family.

        ``source`` is ``"name:reference"``: at each refresh the claims source of that name is asked anew. Without one
        the access tokens of the family carry no additional claims.
        """

    @abstractmethod
    async def register_claims_source(self, name: str, source: ClaimsSource) -> None:
        """Make a source of claims known, such as ``api_key`` for tokens that were had for an API key.

        One of the same name is replaced. A plugin registers its source once, in a ``startup`` step: so an instance that
        takes the place of another one goes on with the sources of that, by ``take_over``.
        """

    @Since("1.2")
    def claims_sources(self) -> Mapping[str, ClaimsSource]:
        """Return the sources that are known, by name, for the instance that takes the place of this one.

        A provider without it loses what plugins have registered where another provider takes its place.
        """
        return {}

    @abstractmethod
    async def validate_token(self, token: str) -> dict[str, Any]:
        """Return the payload of an access token that is valid now.

        Raises:
            InvalidToken: for every other token; its subclass and ``reason`` say why, for the program and its log.
            ManagerUnavailable: whether it is revoked cannot be known.
        """

    @abstractmethod
    async def refresh_token(self, refresh_token: str) -> TokenPair:
        """Give a new pair for a refresh token, which is then used up.

        A used token that comes again revokes its whole family, but for a short time in which a retry of the same
        refresh is answered alike (RFC 9700, section 4.14).

        Raises:
            InvalidToken: it is not a valid refresh token, or its family is revoked.
            ReusedToken: it was used before.
        """

    @abstractmethod
    async def blacklist_token(self, token: str) -> bool:
        """Revoke a token, with its family if it is a refresh token; False if it could not have been used anyway."""

    @Since("1.1")
    def is_still_valid(self, token: str) -> bool:
        """Tell at once, asking nobody, that an access token is valid now and its payload is what it was.

        Only for a token that ``validate_token`` has returned the payload of. False says nothing: ask
        ``validate_token``. A provider that cannot know leaves this as it is.
        """
        return False

    @abstractmethod
    async def is_token_blacklisted(self, token: str) -> bool:
        """Tell whether a token is revoked, by itself, its family, its user or its API key."""

    @Since("1.1")
    def watch_revocations(self, callback: Callable[[], None]) -> Callable[[], None] | None:
        """Call back, on the event loop, when tokens that were valid may have been revoked, in whichever process.

        Returns a function that ends it, or None where the provider cannot tell: then ask ``validate_token`` often.
        """
        return None

    @abstractmethod
    async def revoke_user_tokens(self, user_id: str) -> bool:
        """Revoke all tokens of a user that were issued until now."""

    @abstractmethod
    async def revoke_source_tokens(self, source: str) -> bool:
        """Revoke all tokens that came from a source, such as ``api_key:<id>``."""

    @abstractmethod
    async def get_jwks(self) -> dict[str, Any]:
        """Return the public keys as a JWK set (RFC 7517); an empty one where keys are symmetric."""

    async def rotate_keys(self, *, revoke: bool = False) -> str:
        """Make a new signing key and return its id (``kid``).

        Tokens that earlier keys have signed stay valid until they end. With ``revoke``, for a key that others may have
        got hold of, the new one signs at once and the earlier ones stop with all that they have signed.

        Raises:
            NotSupported: the provider lacks ``rotation``.
        """
        raise NotSupported(f"{type(self).__name__} cannot rotate keys.")


@hookspec
def jwt_providers() -> Iterable[Provider]:
    """Offer providers of the role ``jwt``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
