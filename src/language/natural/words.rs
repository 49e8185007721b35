//! Which language the small words of a sentence are of: articles, pronouns, prepositions, and what requests begin with.
//! Of short sentences these say more than the letters do, and they can be read.

use std::collections::HashMap;
use std::sync::OnceLock;

use whatlang::Lang;

/// The commonest small words of each language. Those that several have count less, and no name of a thing is here: people
/// borrow these (`bug`, `test`, `parser`).
const WORDS: [(Lang, &str); 24] = [
    (
        Lang::Eng,
        "the this that these those a an and or but not is are was were be been has have had do does did can could should \
         would will must may of to in on at by for from with without into about over under what why how when where which \
         who it its i my me you your we our they their he she there here if then than so as also only please write \
         explain make add fix remove use all each every any some other same more less no yes now still again just let \
         show tell give find change update check run after before while because after between i'm don't it's doesn't",
    ),
    (
        Lang::Deu,
        "der die das den dem des ein eine einen einem einer eines und oder aber nicht ist sind war waren sein hat haben \
         wird werden kann kannst können soll sollte muss müssen ich du er sie es wir ihr mich mir dich dir uns mein meine \
         meinen meinem meiner dein deine was warum wie wo wann wer welche welcher welches welchen diese dieser dieses \
         diesen diesem von zu zum zur mit ohne für auf aus bei nach über unter vor durch um im in am an als wenn dass \
         weil so auch nur noch immer schon hier dort jetzt bitte danke schreib schreibe erkläre zeige mach mache mehr \
         keine keinen kein alle jede jeder jedes jeden gibt geht man sich zwischen wurde wurden möchte dann doch \
         korrigiere repariere entferne lösche füge ändere ersetze prüfe teste übersetze hilf warum wieso funktioniert",
    ),
    (
        Lang::Fra,
        "le la les un une des du de et ou mais ne pas est sont était être ai as a ont avoir fait faire peux peut pouvez \
         pourriez dois doit je tu il elle nous vous ils elles me te se moi toi mon ma mes ton ta tes son sa ses notre \
         votre ce cet cette ces que qui quoi quel quelle quels quelles pourquoi comment où quand dans sur sous avec sans \
         pour par en au aux entre vers chez si plus moins très aussi encore toujours déjà ici maintenant tout tous toute \
         toutes chaque autre même rien bonjour merci veuillez écris explique ajoute corrige comme donc alors leur leurs \
         c'est qu'il n'est d'un d'une été lors depuis après avant aucun aucune s'il \
         supprime ajouter renomme remplace vérifie traduis montre aide fonctionne j'ai n'a l'erreur puis-je peux-tu",
    ),
    (
        Lang::Spa,
        "el la los las un una unos unas del al de y o pero no es son era ser está están estar ha han haber hay tiene \
         tienen hacer hace haz puedo puedes puede podrías debo debe yo tú él ella nosotros ellos me te se mi mis tu tus \
         su sus este esta estos estas ese esa eso esto que qué quién cuál cuáles por porque cómo como dónde donde cuándo \
         cuando en con sin para sobre entre hasta desde si más menos muy también aún todavía ya aquí ahora todo todos \
         toda todas cada otro otra mismo misma nada hola gracias favor escribe explica añade lo le les fue sido siempre \
         ningún ninguna después antes solo quiero \
         corrige cambia elimina borra agrega haz arregla revisa traduce muestra ayuda funciona",
    ),
    (
        Lang::Por,
        "o a os as um uma uns umas do da dos das no na nos nas ao aos à às de e ou mas não é são era ser está estão \
         estar foi tem têm ter há fazer faz faça posso pode podes poderia devo deve eu tu ele ela nós você vocês eles me \
         te se meu minha meus minhas seu sua seus suas este esta isto esse essa isso que quem qual quais por porque \
         como onde quando em com sem para pelo pela sobre entre até desde mais menos muito também ainda já aqui agora \
         tudo todo todos toda todas cada outro outra mesmo mesma nada olá obrigado favor escreva explique lhe foram \
         sido nenhum nenhuma depois antes num numa quero deste desta neste nesta \
         corrija adicione remova mude altere conserte verifique traduza mostre ajude funciona",
    ),
    (
        Lang::Ita,
        "il lo la i gli le un uno una del dello della dei degli delle al allo alla ai alle dal dalla nel nella nei nelle \
         sul sulla di e o ma non è sono era essere ha hanno ho avere c'è fare fa fai posso puoi può potresti devo deve io \
         tu lui lei noi voi loro mi ti si ci mio mia miei mie tuo tua suo sua questo questa questi queste quello quella \
         che chi cosa quale quali perché come dove quando in con senza per su tra fra da se più meno molto anche ancora \
         già qui ora adesso tutto tutti tutta tutte ogni altro altra l'altro stesso stessa niente ciao grazie favore \
         scrivi spiega spiegami aggiungi stato nessun nessuna dopo prima voglio dell' \
         correggi cambia rimuovi elimina sostituisci controlla traduci mostra aiutami funziona",
    ),
    (
        Lang::Nld,
        "de het een en of maar niet is zijn was waren wordt worden heeft hebben had kan kun kunnen moet moeten zal zou ik \
         jij je u hij zij ze wij we jullie mij me jou mijn jouw uw ons onze hun dit dat deze die wat waarom hoe waar \
         wanneer wie welke van voor met zonder op in aan uit bij naar over onder door om te tot als dan omdat zo ook \
         alleen nog altijd al hier daar nu alsjeblieft alstublieft dank schrijf leg voeg maak geef toe alle elk elke \
         ieder iedere andere hetzelfde meer geen er zich tussen wil doe kon werd \
         verbeter verwijder verander wijzig vervang controleer vertaal toon help werkt los",
    ),
    (
        Lang::Pol,
        "i w z na do nie się to jest są był była było być ma mają mam można może możesz mogę musi powinien ja ty on ona \
         my wy oni mnie mi ci ciebie mój moja moje moim twój swój ten ta te tego tej tym tych co kto jak dlaczego gdzie \
         kiedy który która które których od dla o po przez przed pod nad przy bez ze że żeby aby jeśli gdy czy ale lub \
         oraz albo też także tylko jeszcze już tu tutaj teraz proszę dziękuję napisz wyjaśnij dodaj zmień popraw usuń \
         wszystkie każdy każdej każdego inny samo więcej mniej bardzo jako za tak chcę nie został została \
         zamień sprawdź przetłumacz pokaż pomóż działa zrób",
    ),
    (
        Lang::Rus,
        "и в во на не что это этот эта эти этого этой этом тот как почему где когда кто какой какая какие который которая \
         которые я ты он она оно мы вы они меня мне тебя тебе его её их нам вам мой моя моё мои моём твой свой из с со к \
         по для от до у о об за под над при без через между перед или но если чтобы то же ли бы был была было были быть \
         есть нет может можешь можно нужно надо ещё уже только также тоже здесь там теперь сейчас все всё каждый каждого \
         каждому другой другого самое больше меньше очень пожалуйста спасибо напиши объясни добавь исправь сделай так \
         делает сделать хочу нельзя после \
         удали измени замени проверь переведи покажи помоги работает почини",
    ),
    (
        Lang::Ukr,
        "і й та в у на не що це цей ця ці цього цієї цьому той як чому де коли хто який яка які якого я ти він вона воно \
         ми ви вони мене мені тебе тобі його її їх нам вам мій моя моє мої моєму твій свій із з зі до по для від о про за \
         під над при без через між перед або але якщо щоб то ж чи би був була було були бути є немає може можеш можна \
         потрібно треба ще вже тільки лише також тут там тепер зараз усі все всі кожен кожного іншої інший саме те більше \
         менше дуже ласка дякую напиши поясни додай виправ зроби так робить зробити хочу після \
         видали зміни заміни перевір переклади покажи допоможи працює полагодь",
    ),
    (
        Lang::Tur,
        "ve bir bu şu o da de ile için gibi daha en çok az mi mı mu mü ne neden niçin nasıl nerede kim hangi kaç ben sen \
         biz siz onlar bana sana beni seni benim senin bizim onun değil var yok olan olarak olduğunda oldu olur olmak \
         olmasını oluyor ama fakat veya ya ki eğer ise göre kadar sonra önce her tüm bütün bazı diğer aynı aynısını şimdi \
         burada orada lütfen teşekkürler yaz açıkla ekle düzelt yap yapar değiştir göster istiyorum olabilir değiştirin \
         sil kaldır kontrol çevir yardım çalışıyor çalıştığını",
    ),
    (
        Lang::Swe,
        "och i att det den de en ett är var som på för med till av inte om jag du han hon vi ni dem mig dig oss min mitt \
         mina din ditt dina sin sitt sina kan ska skall skulle måste vill har hade blir blev vara finns gör göra men \
         eller så när hur varför vad vem vilken vilket vilka där här nu från under över efter före mellan utan också bara \
         ännu redan alla allt varje andra samma mer mindre mycket tack snälla skriv förklara lägg ändra denna detta dessa \
         inget ingen något någon kunde inte \
         rätta ändra byt kontrollera översätt visa hjälp fungerar",
    ),
    (
        Lang::Dan,
        "og i at det den de en et er var som på for med til af ikke om jeg du han hun vi mig dig os min mit mine din dit \
         sin kan skal skulle må vil har havde bliver blev være findes gør gøre men eller så når hvordan hvorfor hvad hvem \
         hvilken hvilket hvor der her nu fra under over efter før mellem uden også kun endnu allerede alle alt hver andre \
         samme mere mindre meget tak venligst skriv forklar tilføj ret denne dette disse ingen noget nogen kunne",
    ),
    (
        Lang::Nob,
        "og i at det den de en et er var som på for med til av ikke om jeg du han hun vi meg deg oss min mitt mine din \
         ditt sin kan skal skulle må vil har hadde blir ble være finnes gjør gjøre men eller så når hvordan hvorfor hva \
         hvem hvilken hvilket hvor der her nå fra under over etter før mellom uten også bare ennå allerede alle alt hver \
         andre samme mer mindre mye takk vennligst skriv forklar legg endre denne dette disse ingen noe noen kunne",
    ),
    (
        Lang::Fin,
        "ja on ei ole oli olla että se ne tämä tämän tässä tätä nämä joka jotka minä sinä hän me te he minun sinun hänen \
         mitä mikä miksi miten missä milloin kuka kuinka kun jos niin kuin mutta tai vai vain myös vielä jo nyt tässä \
         siellä kaikki jokainen jokaiseen toinen sama enemmän vähemmän hyvin kanssa ilman ennen jälkeen voi voit voisitko \
         pitää täytyy haluan tee kirjoita selitä lisää korjaa poista kiitos ole hyvä eivät ovat voida",
    ),
    (
        Lang::Ces,
        "a i v ve na z ze s se do ne je jsou byl byla bylo být není má mají mám může můžeš mohu musí já ty on ona my vy \
         oni mě mi tě ti můj moje mém mého tvůj svůj ten ta to tento tato toto této tomu co kdo jak proč kde kdy který \
         která které od pro o po před pod nad při bez že aby když pokud nebo ale také jen ještě už tady teď prosím děkuji \
         napiš vysvětli přidej oprav uprav změň všechny všechna každý každé jiný druhou totéž více méně velmi jako chci \
         za tak nelze byly \
         odstraň smaž nahraď zkontroluj přelož ukaž pomoz funguje udělej",
    ),
    (
        Lang::Hun,
        "a az egy és vagy de nem van volt lesz lehet kell ez azt ezt ennek ebben hogy mi mit miért hogyan hol mikor ki \
         melyik én te ő mi ti ők nekem neked a meg el ha akkor mert csak is még már itt ott most minden másik ugyanazt \
         több kevesebb nagyon kérlek köszönöm írj magyarázd add javítsd szeretném után előtt nélkül között való sem nincs",
    ),
    (
        Lang::Ron,
        "și sau dar nu este sunt era fi fost are au avea poate poți trebuie eu tu el ea noi voi ei mă te se îmi îți meu \
         mea tău sau acest această acestui aceste acel ce cine cum unde când care de la din în cu fără pentru pe prin \
         despre între până dacă mai foarte și doar încă deja aici acum tot toate fiecare alt altă același vă rog te rog \
         mulțumesc scrie explică adaugă un o unei lui să nici",
    ),
    (
        Lang::Ind,
        "dan atau tetapi tidak adalah ini itu yang di ke dari untuk dengan tanpa pada dalam oleh saya aku kamu anda dia \
         kami kita mereka apa mengapa kenapa bagaimana dimana kapan siapa mana bisa dapat harus akan sudah belum masih \
         juga hanya sekarang semua setiap lain sama lebih kurang sangat tolong terima kasih tulis jelaskan tambahkan \
         perbaiki hapus ubah buat jika kalau karena agar sebagai ada",
    ),
    (
        Lang::Vie,
        "và hoặc nhưng không là có của cho với trong trên dưới từ đến này đó kia tôi bạn anh nó chúng ta họ gì sao tại \
         vì thế nào đâu khi ai được bị phải nên sẽ đã đang cũng chỉ vẫn bây giờ tất cả mỗi khác cùng hơn rất hãy vui \
         lòng cảm ơn viết giải thích thêm sửa xóa nếu thì để một các những",
    ),
    (
        Lang::Bul,
        "и в на не се да че с от за по до като но или ако това този тази тези това как защо къде кога кой коя кое кои \
         аз ти той тя ние вие те ме ми те ти го я ги ни ви моя моят моето моите е са беше бяха бъде има няма може \
         можеш трябва още вече само също тук там сега всички всеки всяка друг друга същото повече по-малко много моля \
         благодаря напиши обясни добави поправи направи искам след преди при без между през във със към върху под над",
    ),
    (
        Lang::Slk,
        "a i v vo na z zo s so do sa nie je sú bol bola bolo byť má majú mám môže môžeš musí ja ty on ona my vy oni \
         mňa mi ťa ti môj moja moje mojom môjho ten tá to tento táto toto tejto tomu čo kto ako prečo kde kedy ktorý \
         ktorá ktoré od pre o po pred pod nad pri bez že aby keď ak alebo ale tiež len ešte už tu teraz prosím \
         ďakujem napíš vysvetli pridaj oprav zmeň všetky každý každej druhú viac menej veľmi chcem za tak neznámy",
    ),
    (
        Lang::Cat,
        "el la els les un una uns unes del dels al als de i o però no és són era ser està estan estar ha han hi haver \
         té tenir fer fa feu faci puc pots pot podries jo tu ell ella nosaltres em et es ens meu meva teu teva seu \
         seva aquest aquesta aquests aquestes aquell això que què qui quin quina per perquè com on quan en amb sense \
         sobre entre fins des si més menys molt també encara ja aquí ara tot tots cada altre altra mateix res hola \
         gràcies escriu explica afegeix s'ha d'una d'un l'arxiu",
    ),
    (
        Lang::Hrv,
        "i u na ne se je su da za od do s sa po o ali ili ako kao što tko kako zašto gdje kada koji koja koje ja ti \
         on ona mi vi oni me mene mi te tebe moj moja moje mojem tvoj ovaj ova ovo taj ta to nije nisu bio bila bilo \
         biti ima nema može možeš mora još već samo također ovdje tamo sada sve svi svaki svaku drugi drugu isto više \
         manje vrlo molim hvala napiši objasni dodaj popravi napravi želim nakon prije pri bez između kroz",
    ),
];

/// What a word counts that one language alone has.
const WHOLE: u32 = 12;
/// The points from which a finding is likely, and is clear, and how many times those of the next language it then has.
const LIKELY: u32 = WHOLE;
const CLEAR: u32 = WHOLE * 3 / 2;
const MARGIN: (u32, u32) = (3, 2);

/// How much the small words of a text say, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// One or two that other languages have too.
    Hint,
    /// About one that no other language has.
    Likely,
    /// More than that.
    Clear,
}

/// The language that most of the small words are of, if there is one.
pub(super) fn of(text: &str) -> Option<(Lang, Weight)> {
    let table = table();
    let mut points = [0_u32; WORDS.len()];
    for word in text.split(|letter: char| !letter.is_alphabetic() && letter != '\'' && letter != '’') {
        let known = table.get(word).copied().or_else(|| table.get(word.to_lowercase().as_str()).copied());
        let mut languages = known.unwrap_or(0);
        let share = WHOLE / languages.count_ones().max(1);
        while languages != 0 {
            if let Some(points) = points.get_mut(languages.trailing_zeros() as usize) {
                *points += share;
            }
            languages &= languages - 1;
        }
    }
    let (at, most) = points.iter().copied().enumerate().max_by_key(|(_, points)| *points)?;
    let next =
        points.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, points)| *points).max()?;
    let language = WORDS.get(at)?.0;
    let weight = match most {
        _ if most * MARGIN.1 < next * MARGIN.0 => Weight::Hint,
        CLEAR.. => Weight::Clear,
        LIKELY.. => Weight::Likely,
        _ => Weight::Hint,
    };
    (most > next).then_some((language, weight))
}

/// Each word with the languages that have it, as bits in the order of [`WORDS`].
fn table() -> &'static HashMap<&'static str, u32> {
    static TABLE: OnceLock<HashMap<&'static str, u32>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = HashMap::new();
        for (at, (_, words)) in WORDS.iter().enumerate() {
            for word in words.split_ascii_whitespace() {
                *table.entry(word).or_insert(0) |= 1 << at;
            }
        }
        table
    })
}
