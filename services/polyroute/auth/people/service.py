"""PeopleService and VaultService: messages into what people do for themselves, and its outcome into messages."""

from typing import Any

import grpc

from polyroute.api.auth.v1 import people_pb2 as pb
from polyroute.api.auth.v1 import people_pb2_grpc, vault_pb2, vault_pb2_grpc
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.messages import duration
from polyroute.auth.messages import key as key_message
from polyroute.auth.people import messages
from polyroute.auth.people.admission import presented
from polyroute.auth.people.members import Members
from polyroute.auth.people.oidc import COOKIE_SECONDS, Oidc
from polyroute.auth.people.registry import People
from polyroute.auth.people.sessions import Sessions
from polyroute.auth.people.signin import SignIn
from polyroute.auth.people.tokens import AccessTokens, Bearer
from polyroute.auth.people.vault import Vault
from polyroute.mesh.errors import MeshError

Context = grpc.aio.ServicerContext[Any, Any]


class PeopleService(people_pb2_grpc.PeopleServiceServicer):
    """Registration and sign-in, over the contract.

    Args:
        sign_in: Lets people in by their passwords.
        oidc: Lets people in by identity providers.
        sessions: What they get.
        tokens: Reads access tokens.
        people: Knows them.
        members: Knows which accounts they are in.
    """

    def __init__(
        self, sign_in: SignIn, oidc: Oidc, sessions: Sessions, tokens: AccessTokens, people: People, members: Members
    ) -> None:
        self._sign_in = sign_in
        self._oidc = oidc
        self._sessions = sessions
        self._tokens = tokens
        self._people = people
        self._members = members

    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterResponse:  # noqa: N802
        """Creates a person."""
        arrival, pair = await self._sign_in.register(
            request.email, request.password, request.name, request.invitation, presented(context).address
        )
        return pb.RegisterResponse(
            person=messages.person(arrival.person),
            account_id=arrival.account_id,
            project_id=arrival.project_id,
            key=key_message(arrival.key) if arrival.key is not None else None,
            secret=arrival.secret,
            trial_nanos=arrival.trial,
            tokens=messages.tokens(pair),
        )

    async def SignIn(self, request: pb.SignInRequest, context: Context) -> pb.SignInResponse:  # noqa: N802
        """Gives tokens for a password."""
        pair = await self._sign_in.sign_in(request.email, request.password, presented(context).address)
        return pb.SignInResponse(tokens=messages.tokens(pair))

    async def RefreshTokens(self, request: pb.RefreshTokensRequest, context: Context) -> pb.RefreshTokensResponse:  # noqa: N802
        """Gives new tokens for a refresh token."""
        return pb.RefreshTokensResponse(tokens=messages.tokens(await self._sessions.refresh(request.refresh_token)))

    async def SignOut(self, request: pb.SignOutRequest, context: Context) -> pb.SignOutResponse:  # noqa: N802
        """Ends a session."""
        await self._sessions.end(request.refresh_token)
        return pb.SignOutResponse()

    async def ChangePassword(self, request: pb.ChangePasswordRequest, context: Context) -> pb.ChangePasswordResponse:  # noqa: N802
        """Changes the caller's password."""
        caller = await self._caller(context)
        await self._sign_in.change(
            caller.person_id, caller.session_id, request.password, request.new_password, presented(context).address
        )
        return pb.ChangePasswordResponse()

    async def ResetPassword(self, request: pb.ResetPasswordRequest, context: Context) -> pb.ResetPasswordResponse:  # noqa: N802
        """Sets a password by a code."""
        await self._sign_in.reset(request.code, request.new_password, presented(context).address)
        return pb.ResetPasswordResponse()

    async def AcceptInvitation(  # noqa: N802
        self, request: pb.AcceptInvitationRequest, context: Context
    ) -> pb.AcceptInvitationResponse:
        """Makes the caller a member."""
        member = await self._members.accept((await self._caller(context)).person_id, request.code)
        return pb.AcceptInvitationResponse(member=messages.member(member))

    async def GetSelf(self, request: pb.GetSelfRequest, context: Context) -> pb.GetSelfResponse:  # noqa: N802
        """Says who the caller is."""
        person_id = (await self._caller(context)).person_id
        memberships = map(messages.member, await self._members.of(person_id))
        return pb.GetSelfResponse(person=messages.person(await self._people.get(person_id)), memberships=memberships)

    async def BeginOidc(self, request: pb.BeginOidcRequest, context: Context) -> pb.BeginOidcResponse:  # noqa: N802
        """Begins a sign-in at an identity provider."""
        departure = await self._oidc.begin(request.provider)
        return pb.BeginOidcResponse(
            url=departure.url,
            state_cookie=departure.cookie,
            valid_for=duration(COOKIE_SECONDS),
            redirect_uri=departure.back,
        )

    async def FinishOidc(self, request: pb.FinishOidcRequest, context: Context) -> pb.FinishOidcResponse:  # noqa: N802
        """Ends a sign-in at an identity provider."""
        address = presented(context).address
        person, created = await self._oidc.finish(
            request.code, request.state, request.state_cookie, sender=request.issuer, address=address
        )
        tokens = messages.tokens(await self._sessions.begin(person.id))
        return pb.FinishOidcResponse(person=messages.person(person), created=created, tokens=tokens)

    async def _caller(self, context: Context) -> Bearer:
        """Who calls; their session lives and they are not shut out."""
        credential = presented(context).credential
        if not credential:
            raise MeshError(errors_pb2.REASON_CREDENTIAL_MISSING, "send an access token as authorization: Bearer")
        bearer = self._tokens.read(credential)
        if await self._people.standings(bearer.person_id, bearer.session_id) is None:
            raise MeshError(errors_pb2.REASON_CREDENTIAL_INVALID, "the access token is not valid")
        return bearer


class VaultService(vault_pb2_grpc.VaultServiceServicer):
    """Sealed vendors' keys, for the providers role.

    Args:
        vault: Keeps them.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def FetchVendorKeys(  # noqa: N802
        self, request: vault_pb2.FetchVendorKeysRequest, context: Context
    ) -> vault_pb2.FetchVendorKeysResponse:
        """Gives all keys when they are not those of the revision."""
        revision, keys = await self._vault.all()
        if revision == request.revision:
            return vault_pb2.FetchVendorKeysResponse(revision=revision, unchanged=True)
        sealed = [vault_pb2.SealedVendorKey(provider=key.provider, name=key.name, sealed=key.sealed) for key in keys]
        return vault_pb2.FetchVendorKeysResponse(revision=revision, keys=sealed)
