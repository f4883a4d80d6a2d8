"""The words synthetic prompts are made of: short, plain, lower-case English, most of them one token in any vocabulary.

One list for every tokenizer, so that two targets with the same vocabulary get the same text however it was counted.
"""

from __future__ import annotations

_LIST = """
able about above accept across action active actual add address admit adult affect after again against age agency
ago agree ahead air all allow almost alone along already also always among amount and animal another answer any
apart appear apply area argue arm army around arrive art article artist ask assume attack author avoid away baby
back bad bag ball band bank bar base basic battle beach bear beat beauty because become bed before began begin
behind believe below benefit best better between beyond big bill bird birth bit black block blood blue board boat
body bone book border born both bottom box boy brain branch bread break bridge bright bring brother brought brown
budget build built burn bus business busy but buy call camera camp can cancer capital car card care career carry
case cash cat catch cause cell center central century certain chair chance change charge cheap check child choice
choose church circle city civil claim class clean clear climb clock close cloud club coach coast code coffee cold
collect college color come common company compare complex concern connect contact contain content control cook
cool copy core corner correct cost could council count country county couple course court cover create credit
crime cross crowd culture cup current cut cycle dance danger dark data date daughter day dead deal death debate
decade decide deep defense degree demand depend describe desert design desk detail develop device die diet differ
dinner direct discuss disease distance doctor dog door double doubt down draft dragon draw dream dress drink drive
drop drug dry due during dust duty each early earth ease east easy eat edge effect effort egg eight either elect
else employ empty end enemy energy engine enjoy enough enter entire equal error escape even evening event ever
every exact example except exist expect expert explain express extra eye face fact factor fail fair faith fall
family famous far farm fast father favor fear feature feel feet field fight figure file fill film final find fine
finger finish fire firm first fish fit five fix flag flat flight floor flow flower fly focus follow food foot for
force foreign forest forget form formal former fort forward found four frame free french fresh friend from front
fruit fuel full fun fund future game garden gas gate gather gave general gentle get giant gift girl give glass
global goal gold gone good got grade grand grant grass gray great green ground group grow growth guard guess guide
gun guy hair half hall hand happen happy hard hat have head health hear heart heat heavy height held hello help
here hero high hill him his history hit hold hole holy home honor hope horse hospital host hot hotel hour house
how huge human hundred hunt hurt husband ice idea image impact improve inch include income increase indeed index
indian inside instead intend into iron island issue item job join joint joy judge jump just keep key kid kill kind
king kitchen knew knife know labor lack lady lake land language large last late laugh launch law lay lead leader
learn least leave left leg legal less lesson let letter level liberal library lie life lift light like likely
limit line link list listen little live local lock long look lord lose loss lost lot loud love low lower luck
lunch machine magic main major make male man manage many map mark market marry mass master match matter may maybe
meal mean measure meat media meet member memory mental mention message metal method middle might mile military
milk mind mine minister minute mirror miss mission mix model modern moment money month moon moral more morning
most mother motion mount mountain mouth move movie much music must name narrow nation native nature near neck need
network never new news next nice night nine noise none nor normal north nose not note nothing notice now number
object occur ocean off offer office often oil old once one only open option orange order other out output outside
over owe own owner page pain paint pair paper parent park part party pass past path pattern pay peace people per
perfect perhaps period person phone photo phrase pick picture piece pink place plain plan plane plant plate play
player please plenty pocket poem point police policy pool poor popular port pose post pound power practice prepare
present press pretty price pride prince print prison private prize problem process produce product profit program
project proof protect proud prove provide public pull pure purple purpose push put quality quarter queen question
quick quiet quite race radio rail rain raise range rank rapid rare rate rather reach read ready real reason
receive recent record red reduce refer reform region relate release remain remember remote remove repair repeat
report request require rescue research respond rest result return reveal rice rich ride right ring rise risk river
road rock role roll roof room root rose rough round route royal rule run rural rush sacred safe said sail sale
salt same sand save say scale scene school science score sea search season seat second secret section sector see
seed seek seem sell send senior sense series serious serve service set seven shadow shake shape share sharp she
sheet shell ship shirt shock shoe shoot shop short should shoulder show shut sick side sight sign signal silence
silver similar simple since sing single sir sister sit site six size skill skin sky sleep slip slow small smart
smile smoke smooth snow social society soft soil soldier solid solve some son song soon sort soul sound source
south space speak special speech speed spell spend spirit sport spot spread spring square stable staff stage stand
standard star start state station stay steal steel step stick still stock stone stop store storm story straight
strange street stress strike string strong student study stuff style subject success such sudden suffer sugar
suggest suit summer sun supply support sure surface sweet swim switch symbol system table tail take tale talk tall
task taste tax teach team tear tell ten tend term test text than thank that the them then theory there these they
thick thin thing think third this those though thought thousand three throw thus ticket tie tight time tiny tip
title today together told tone tonight too tool top total touch tough tour toward town track trade train travel
treat tree trial trip trouble true trust truth try turn twelve twenty twice two type under union unit until upon
upper use used useful user usual valley value van vast version very victim video view village virtue visit voice
vote wait wake walk wall want war warm warn wash waste watch water wave way weak wealth weapon wear weather web
week weight welcome well went west western wet what wheel when where which while white who whole whose why wide
wife wild will win wind window wine wing winner winter wire wise wish with within without woman wonder wood word
work world worry worth would wound write wrong yard yeah year yellow yes yet yield you young your youth zero zone
"""

WORDS: tuple[str, ...] = tuple(_LIST.split())
