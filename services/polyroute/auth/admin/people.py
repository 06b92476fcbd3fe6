"""AdminService's methods about people, and about what an installation is entrusted with."""

from dataclasses import dataclass
from typing import Any

from polyroute.api.auth.v1 import people_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.admin.filters import NO_FIELDS, Fields
from polyroute.auth.admin.journal import Journal
from polyroute.auth.admin.paging import Page
from polyroute.auth.messages import key, seconds, timestamp
from polyroute.auth.people import messages
from polyroute.auth.people.actors import admitted
from polyroute.auth.people.foreign import Importer
from polyroute.auth.people.members import INVITATION_FIELDS, Members
from polyroute.auth.people.registrar import Registrar
from polyroute.auth.people.registry import FIELDS, People
from polyroute.auth.people.roles import Role
from polyroute.auth.people.signin import SignIn
from polyroute.auth.people.vault import Vault
from polyroute.mesh.errors import MeshError


@dataclass(frozen=True, slots=True)
class Staff:
    """Who does the work."""

    people: People
    members: Members
    registrar: Registrar
    sign_in: SignIn
    importer: Importer
    vault: Vault
    journal: Journal


class PeopleMethods:
    """What administrators do about people; a part of `AdminService`.

    Args:
        staff: Does the work.
    """

    def __init__(self, staff: Staff) -> None:
        self._staff = staff

    async def CreateMember(self, request: pb.CreateMemberRequest, context: Any) -> pb.CreateMemberResponse:  # noqa: N802
        """Makes a person a member."""
        role = Role(request.role)
        made = await self._staff.members.add(admitted(), request.account_id, request.person_id, role)
        return pb.CreateMemberResponse(member=messages.member(made))

    async def ListMembers(self, request: pb.ListMembersRequest, context: Any) -> pb.ListMembersResponse:  # noqa: N802
        """Lists the members of an account."""
        found, token = await self._staff.members.page(request.account_id, _page(request))
        return pb.ListMembersResponse(members=map(messages.member, found), next_page_token=token)

    async def UpdateMember(self, request: pb.UpdateMemberRequest, context: Any) -> pb.UpdateMemberResponse:  # noqa: N802
        """Changes what a member may do."""
        wanted = request.member
        role = Role(wanted.role) if wanted.role else None
        projects = {one.project_id: Role(one.role) for one in wanted.project_roles}
        done = await self._staff.members.change(admitted(), wanted.account_id, wanted.person_id, role, projects)
        return pb.UpdateMemberResponse(member=messages.member(done))

    async def DeleteMember(self, request: pb.DeleteMemberRequest, context: Any) -> pb.DeleteMemberResponse:  # noqa: N802
        """Takes a person out of an account."""
        await self._staff.members.remove(admitted(), request.account_id, request.person_id)
        return pb.DeleteMemberResponse()

    async def CreateInvitation(  # noqa: N802
        self, request: pb.CreateInvitationRequest, context: Any
    ) -> pb.CreateInvitationResponse:
        """Invites somebody."""
        lifetime = seconds(request.lifetime) if request.HasField("lifetime") else None
        role = Role(request.role or Role.MEMBER)
        made, code = await self._staff.members.invite(admitted(), request.account_id, role, request.email, lifetime)
        return pb.CreateInvitationResponse(invitation=messages.invitation(made), code=code)

    async def ListInvitations(  # noqa: N802
        self, request: pb.ListInvitationsRequest, context: Any
    ) -> pb.ListInvitationsResponse:
        """Lists invitations."""
        found, token = await self._staff.members.invitations(request.account_id, _page(request, INVITATION_FIELDS))
        return pb.ListInvitationsResponse(invitations=map(messages.invitation, found), next_page_token=token)

    async def DeleteInvitation(  # noqa: N802
        self, request: pb.DeleteInvitationRequest, context: Any
    ) -> pb.DeleteInvitationResponse:
        """Withdraws an invitation."""
        await self._staff.members.withdraw(admitted(), request.invitation_id)
        return pb.DeleteInvitationResponse()

    async def ListPeople(self, request: pb.ListPeopleRequest, context: Any) -> pb.ListPeopleResponse:  # noqa: N802
        """Lists people."""
        found, token = await self._staff.people.page(_page(request, FIELDS))
        return pb.ListPeopleResponse(people=map(messages.person, found), next_page_token=token)

    async def CreatePerson(self, request: pb.CreatePersonRequest, context: Any) -> pb.CreatePersonResponse:  # noqa: N802
        """Creates a person, and a code by which they set their password."""
        role, actor = Role(request.role or Role.MEMBER), admitted().actor.name
        arrival = await self._staff.registrar.create(actor, request.email, request.name, request.account_id, role)
        code, expires = await self._staff.sign_in.offer_reset(actor, arrival.person.id)
        person = messages.person(arrival.person)
        return pb.CreatePersonResponse(
            person=person, account_id=arrival.account_id, code=code, expire_time=timestamp(expires)
        )

    async def UpdatePerson(self, request: pb.UpdatePersonRequest, context: Any) -> pb.UpdatePersonResponse:  # noqa: N802
        """Keeps a person out, or lets them in again."""
        wanted = request.person
        done = await self._staff.people.set_disabled(admitted().actor.name, wanted.id, disabled=wanted.disabled)
        return pb.UpdatePersonResponse(person=messages.person(done))

    async def CreatePasswordReset(  # noqa: N802
        self, request: pb.CreatePasswordResetRequest, context: Any
    ) -> pb.CreatePasswordResetResponse:
        """Makes a code that sets a password."""
        code, expires = await self._staff.sign_in.offer_reset(admitted().actor.name, request.person_id)
        return pb.CreatePasswordResetResponse(code=code, expire_time=timestamp(expires))

    async def ImportKeys(self, request: pb.ImportKeysRequest, context: Any) -> pb.ImportKeysResponse:  # noqa: N802
        """Takes keys of another gateway over."""
        wanted = [messages.to_foreign(one) for one in request.keys]
        done = await self._staff.importer.take(admitted().actor.name, wanted)
        imported = [
            pb.ImportedKey(sha256=one.sha256, key=key(taken), created=created)
            for one, (taken, created) in zip(wanted, done, strict=True)
        ]
        return pb.ImportKeysResponse(keys=imported)

    async def PutVendorKey(self, request: pb.PutVendorKeyRequest, context: Any) -> pb.PutVendorKeyResponse:  # noqa: N802
        """Enters a vendor's key."""
        entered = await self._staff.vault.put(
            admitted().actor.name, request.provider, request.name, request.secret, request.sealed
        )
        return pb.PutVendorKeyResponse(vendor_key=messages.vendor_key(entered))

    async def ListVendorKeys(self, request: pb.ListVendorKeysRequest, context: Any) -> pb.ListVendorKeysResponse:  # noqa: N802
        """Lists vendors' keys."""
        found, token = await self._staff.vault.page(request.provider, _page(request))
        return pb.ListVendorKeysResponse(vendor_keys=map(messages.vendor_key, found), next_page_token=token)

    async def DeleteVendorKey(  # noqa: N802
        self, request: pb.DeleteVendorKeyRequest, context: Any
    ) -> pb.DeleteVendorKeyResponse:
        """Takes a vendor's key out."""
        await self._staff.vault.remove(admitted().actor.name, request.provider, request.name)
        return pb.DeleteVendorKeyResponse()

    async def VerifyAuditLog(self, request: pb.VerifyAuditLogRequest, context: Any) -> pb.VerifyAuditLogResponse:  # noqa: N802
        """Checks the log of changes."""
        try:
            digest = bytes.fromhex(request.known_digest)
        except ValueError:
            raise MeshError(
                errors_pb2.REASON_INVALID_REQUEST,
                "a digest is hexadecimal digits",
                metadata={"param": "known_digest"},
            ) from None
        return messages.check(await self._staff.journal.check(request.known_id, digest))


def _page(request: Any, fields: Fields = NO_FIELDS) -> Page:
    text = request.filter if fields else ""
    return Page.of(request.page_size, request.page_token, text, fields, admitted().reach)
